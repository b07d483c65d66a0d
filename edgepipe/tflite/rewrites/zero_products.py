"""Puts constants in the place of integers that are multiplied by 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import integers
from edgepipe.tflite.rewrite import Rewrite

WHOLE = ("int32", "int64")


class ZeroProducts(Rewrite):
    """An input that no longer matters is kept alive by adding 0 times it, as silero-vad does with
    its sample rate. The CAST between leaves an operator in float.

    Only integers: 0 times an infinite number is none.
    """

    name: ClassVar[str] = "zero_products"
    says: ClassVar[str] = "products with 0 became constants"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("MUL"):
            if op.outputs[0].dtype in WHOLE and _zero(op):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        readers = graph.consumers(op.outputs[0])
        if op.outputs[0] in graph.outputs or any(_kept(graph, reader) for reader in readers):
            return False
        for cast in readers:
            result = cast.outputs[0]
            zeros = Tensor.constant(f"{result.name}_zero", np.zeros(result.shape, result.dtype))
            edit.replace(model, graph, result, zeros)
        edit.remove(graph, [op, *readers])
        return True


def _zero(op: Op) -> bool:
    return any(set(integers(tensor) or [1]) == {0} for tensor in op.inputs)


def _kept(graph: Graph, reader: Op) -> bool:
    """Whether this is more than a CAST of the product in the middle of the graph."""
    return reader.name != "CAST" or reader.outputs[0] in graph.outputs


REWRITE = ZeroProducts()
