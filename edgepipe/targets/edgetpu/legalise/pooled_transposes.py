"""Reductions behind a transpose: over the axes where they were before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.targets.edgetpu.legalise.steps import Steps, stored_alike, whole
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.rewrite import Rewrite

_REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")


class PooledTransposes(Rewrite):
    """Squeeze-and-excite blocks of PyTorch move all channels to the front to take their mean.

    MEAN over height and width needs none of that, and what is left to move is one number a
    channel.
    """

    name: ClassVar[str] = "pooled_transposes"
    says: ClassVar[str] = "transposes before a mean were left out"

    def places(self, graph: Graph) -> Iterator[Op]:
        return (op for op in graph.operators(*_REDUCTIONS) if _found(graph, op) is not None)

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        found = _found(graph, op)
        if found is None:
            return False
        source, axes = found
        steps = Steps(op)
        kept = tuple(size for axis, size in enumerate(source.shape) if axis not in axes)
        reduced = steps.add(
            op.name, source, steps.numbers(axes), shape=kept, like=op.outputs[0], keep_dims=False
        )
        steps.reshape(reduced, op.outputs[0].shape, last=True)
        edit.substitute(graph, [op], steps.ops)
        return True


def _found(graph: Graph, op: Op) -> tuple[Tensor, list[int]] | None:
    """The tensor before the transpose and its axes, where what stays keeps its order."""
    moved, axes = op.inputs[0], whole(op.inputs[1])
    before = graph.producer(moved) if moved is not None else None
    if before is None or before.name != "TRANSPOSE" or moved is None or axes is None:
        return None
    source, order = before.inputs[0], whole(before.inputs[1])
    if source is None or order is None or source.dynamic or not stored_alike(source, moved):
        return None
    gone = {int(axis) % len(order) for axis in axes}
    stays = [one for place, one in enumerate(order) if place not in gone]
    long = [axis for axis in stays if source.shape[axis] > 1]
    if long != sorted(long):
        return None
    return source, [int(axis) for axis in np.sort([order[axis] for axis in gone])]


REWRITE = PooledTransposes()
