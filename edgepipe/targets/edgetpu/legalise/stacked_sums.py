"""A stack of tensors that is summed as additions in a chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.targets.edgetpu.legalise.steps import Steps, integer, range_of, stored_alike, whole
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.rewrite import Rewrite

MOST = 16
"""Parts; more would be a layer, not a few branches."""


class StackedSums(Rewrite):
    """A stack has one dimension more than the three that the chip computes on."""

    name: ClassVar[str] = "stacked_sums"
    says: ClassVar[str] = "a sum over a stack became additions"
    integer_db: ClassVar[float | None] = 30.0

    def places(self, graph: Graph) -> Iterator[Op]:
        return (op for op in graph.operators("SUM", "MEAN") if _parts(graph, op))

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        parts, steps = _parts(graph, op), Steps(op)
        shape = steps.target.shape
        total = steps.reshape(parts[0], shape)
        for number, part in enumerate(parts[1:], 2):
            last = op.name == "SUM" and number == len(parts)
            within = None
            if integer(part):
                low, high = range_of(part)
                within = (low * number, high * number)
            operand = steps.reshape(part, shape)
            total = steps.add("ADD", total, operand, within=within, last=last)
        if op.name == "MEAN":
            steps.add("MUL", total, 1 / len(parts), last=True)
        edit.substitute(graph, [op], steps.ops)
        return True


def _parts(graph: Graph, op: Op) -> list[Tensor]:
    """What is stacked along the axis that is summed over, where that is all."""
    source, axes = op.inputs[0], whole(op.inputs[1])
    stack = graph.producer(source) if source is not None else None
    if stack is None or source is None or axes is None or len(axes) != 1 or source.dynamic:
        return []
    rank = len(source.shape)
    if stack.name not in ("PACK", "CONCATENATION") or stack.activation != "NONE":
        return []
    if int(stack.option("axis")) % rank != axes[0] % rank:
        return []
    parts = list(stack.reads())
    if stack.name == "CONCATENATION" and any(one.shape[axes[0]] != 1 for one in parts):
        return []
    alike = all(stored_alike(one, source) and not one.is_constant for one in parts)
    return parts if 1 < len(parts) <= MOST and alike else []


REWRITE = StackedSums()
