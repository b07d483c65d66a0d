"""Drops arithmetic that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import scalar
from edgepipe.tflite.rewrite import Rewrite

_NEUTRAL = {"ADD": 0.0, "SUB": 0.0, "MUL": 1.0, "DIV": 1.0}


class Neutral(Rewrite):
    """ADD and SUB of 0, MUL and DIV by 1.

    A constant that is the zero point of its own scale is stored as nothing but zeros, and each
    such operator rounds all numbers once more.
    """

    name: ClassVar[str] = "neutral"
    says: ClassVar[str] = "additions of 0 and multiplications by 1 were dropped"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators(*_NEUTRAL):
            if _kept(op) is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        kept = _kept(op)
        if kept is None or (kept in graph.inputs and op.outputs[0] in graph.outputs):
            return False
        edit.replace(model, graph, op.outputs[0], kept)
        edit.remove(graph, [op])
        return True


def _kept(op: Op) -> Tensor | None:
    """The operand that is the result as well."""
    if op.activation != "NONE" or len(op.inputs) != 2:
        return None
    pairs = [(op.inputs[0], op.inputs[1])]
    if op.name in ("ADD", "MUL"):
        pairs.append((op.inputs[1], op.inputs[0]))
    for kept, other in pairs:
        same_shape = kept is not None and kept.shape == op.outputs[0].shape
        if same_shape and scalar(other) == _NEUTRAL[op.name]:
            return kept
    return None


REWRITE = Neutral()
