"""Gathers of everything in its order: dropped; of a run of neighbours: SLICE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.targets.edgetpu.legalise import movement
from edgepipe.targets.edgetpu.legalise.steps import Steps, whole
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.rewrite import Rewrite


class Gathers(Rewrite):
    """Converters write indexing as GATHER_ND over a range of numbers; the compiler knows no
    gathers."""

    name: ClassVar[str] = "gathers"
    says: ClassVar[str] = "gathers over a range became slices, or nothing"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("GATHER", "GATHER_ND"):
            if _everything(op) or _run(op) is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        steps = Steps(op)
        if _everything(op):
            steps.reshape(steps.source, steps.target.shape, last=True)
        else:
            found = _run(op)
            assert found is not None
            axis, first, count = found
            begin = [first if one == axis else 0 for one in range(len(steps.source.shape))]
            size = list(steps.source.shape)
            size[axis] = count
            part = steps.add(
                "SLICE", steps.source, steps.numbers(begin), steps.numbers(size), shape=tuple(size)
            )
            steps.reshape(part, steps.target.shape, last=True)
        edit.substitute(graph, [op], steps.ops)
        return True


def _everything(op: Op) -> bool:
    source = op.inputs[0]
    if source is None or source.is_constant or source.dynamic or source.elements > movement.LARGEST:
        return False
    places = movement.follow(source, [op])
    return places is not None and np.array_equal(places.reshape(-1), np.arange(source.elements))


def _run(op: Op) -> tuple[int, int, int] | None:
    """Axis, first and count of neighbours in their order."""
    source, indices = op.inputs[0], whole(op.inputs[1])
    if op.name != "GATHER" or source is None or not indices or op.option("batch_dims"):
        return None
    if source.is_constant or source.dynamic:
        return None
    axis = int(op.option("axis")) % len(source.shape)
    first = indices[0] % source.shape[axis]
    run = list(range(first, first + len(indices)))
    return (axis, first, len(run)) if [one % source.shape[axis] for one in indices] == run else None


REWRITE = Gathers()
