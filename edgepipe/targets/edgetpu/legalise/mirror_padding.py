"""MIRROR_PAD by joining what is at the edges to the image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.targets.edgetpu.legalise.steps import Steps, stored_alike, whole
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.rewrite import Rewrite

MOST = 4
"""Rows and columns; each is a SLICE of its own, because it is turned round."""


class MirrorPadding(Rewrite):
    """The compiler maps no MIRROR_PAD. Rows and columns at the edges are cut out and joined on."""

    name: ClassVar[str] = "mirror_padding"
    says: ClassVar[str] = "MIRROR_PAD became SLICE and CONCATENATION"

    def places(self, graph: Graph) -> Iterator[Op]:
        return (op for op in graph.operators("MIRROR_PAD") if _amounts(op) is not None)

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        amounts = _amounts(op)
        if amounts is None:
            return False
        steps, skipped = Steps(op), int(op.option("mode") == "REFLECT")
        joined = steps.source
        for axis, (before, after) in enumerate(amounts):
            if not before and not after:
                continue
            length = joined.shape[axis]
            heads = [_cut(steps, joined, axis, skipped + one) for one in reversed(range(before))]
            tails = [_cut(steps, joined, axis, length - 1 - skipped - one) for one in range(after)]
            shape = list(joined.shape)
            shape[axis] += before + after
            joined = steps.add(
                "CONCATENATION", *heads, joined, *tails, shape=tuple(shape), like=joined, axis=axis
            )
        steps.ops[-1].outputs = [steps.target]
        edit.substitute(graph, [op], steps.ops)
        return True


def _cut(steps: Steps, source: Tensor, axis: int, place: int) -> Tensor:
    begin, size = [0] * len(source.shape), list(source.shape)
    begin[axis], size[axis] = place, 1
    return steps.add("SLICE", source, steps.numbers(begin), steps.numbers(size), shape=tuple(size))


def _amounts(op: Op) -> list[tuple[int, int]] | None:
    """How much at both ends of each axis."""
    source, found = op.inputs[0], whole(op.inputs[1])
    if source is None or not found or not Steps(op).plain or source.dynamic:
        return None
    if max(found) > MOST or not any(found) or not stored_alike(source, op.outputs[0]):
        return None
    return list(zip(found[::2], found[1::2], strict=True))


REWRITE = MirrorPadding()
