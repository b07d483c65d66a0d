"""Joins reshapes in a row, and drops those that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.rewrite import Rewrite


class Reshapes(Rewrite):
    """Each is an operator that a compiler must map, and on some devices a copy."""

    name: ClassVar[str] = "reshapes"
    says: ClassVar[str] = "reshapes were joined or dropped"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("RESHAPE"):
            if _same(op) or _before(graph, op) is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        source, target = op.inputs[0], op.outputs[0]
        before = _before(graph, op)
        if before is not None:
            source = before.inputs[0]
            op.inputs[0] = source
        elif not _same(op):
            return False
        if source is not None and _same(op) and not (
            source in graph.inputs and target in graph.outputs
        ):  # fmt: skip
            edit.replace(model, graph, target, source)
            edit.remove(graph, [op])
            return True
        return before is not None


def _same(op: Op) -> bool:
    source, target = op.inputs[0], op.outputs[0]
    return source is not None and source.shape == target.shape and not source.dynamic


def _before(graph: Graph, op: Op) -> Op | None:
    source = op.inputs[0]
    before = graph.producer(source) if source is not None else None
    if before is None or before.name != "RESHAPE" or op.outputs[0].dynamic:
        return None
    fixed = before.inputs[0] is not None and not before.inputs[0].dynamic
    return before if fixed else None


REWRITE = Reshapes()
