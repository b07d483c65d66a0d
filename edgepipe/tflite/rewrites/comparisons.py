"""Compares integers as integers, not as floats made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant
from edgepipe.tflite.rewrite import Rewrite

COMPARISONS = ("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL")
EXACT = 2**24
"""Beyond it float32 skips integers, so the two comparisons differ."""


class Comparisons(Rewrite):
    """A comparison of CAST integers with a whole number.

    Exporters of old operator sets write `ids < 0` of an embedding so. It says nothing of real
    values, but a quantizer finds an operator in float that has no integers.
    """

    name: ClassVar[str] = "comparisons"
    says: ClassVar[str] = "integers were compared as integers"

    def places(self, graph: Graph) -> Iterator[Op]:
        for kind in COMPARISONS:
            for op in graph.operators(kind):
                if _integers(graph, op) is not None:
                    yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        found = _integers(graph, op)
        if found is None:
            return False
        op.inputs = list(found)
        return True


REWRITE = Comparisons()


def _integers(graph: Graph, op: Op) -> tuple[Tensor, Tensor] | None:
    """Both operands in the type of the one that was cast."""
    left, right = (_uncast(graph, tensor) for tensor in op.inputs)
    one = left if left is not None else right
    if (
        one is None
        or (left is not None and right is not None)
        or op.inputs[0] is None
        or op.inputs[0].dtype != "float32"
    ):
        return None
    made = [
        cast if cast is not None else _whole(tensor, one.dtype, f"{op.outputs[0].name}_whole")
        for cast, tensor in zip((left, right), op.inputs, strict=True)
    ]
    if made[0] is None or made[1] is None or made[0].dtype != made[1].dtype:
        return None
    return made[0], made[1]


def _uncast(graph: Graph, tensor: Tensor | None) -> Tensor | None:
    maker = graph.producer(tensor) if tensor is not None else None
    if maker is None or maker.name != "CAST":
        return None
    given = maker.inputs[0]
    return given if given is not None and given.dtype in ("int32", "int64") else None


def _whole(tensor: Tensor | None, dtype: str, name: str) -> Tensor | None:
    values = constant(tensor)
    if values is None or not np.all(np.abs(values) < EXACT) or np.any(values != np.rint(values)):
        return None
    return Tensor.constant(name, values.astype(dtype))
