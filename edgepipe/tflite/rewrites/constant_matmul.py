"""Turns a matrix product with a constant into a dense layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant
from edgepipe.tflite.rewrite import Rewrite


class ConstantMatmul(Rewrite):
    """BATCH_MATMUL whose second operand is one constant matrix: FULLY_CONNECTED.

    ai-edge-quantizer 0.10 gives the constant a scale per channel, which LiteRT 2.3's int8
    BATCH_MATMUL doesn't know: the result is all zeros, without a word.
    """

    name: ClassVar[str] = "constant_matmul"
    says: ClassVar[str] = "BATCH_MATMUL with a constant became FULLY_CONNECTED"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("BATCH_MATMUL"):
            if _matrix(op) is not None and not op.option("adj_x"):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        matrix, source, target = _matrix(op), op.inputs[0], op.outputs[0]
        if matrix is None or source is None or len(source.shape) != len(target.shape):
            return False
        rows = matrix if op.option("adj_y") else matrix.T
        weights = Tensor.constant(f"{target.name}_weights", np.ascontiguousarray(rows))
        bias = Tensor.constant(f"{target.name}_bias", np.zeros(len(rows), np.float32))
        new = Op.make(
            "FULLY_CONNECTED", [source, weights, bias], op.outputs,
            keep_num_dims=len(target.shape) > 2,
        )  # fmt: skip
        edit.substitute(graph, [op], [new])
        return True


def _matrix(op: Op) -> np.ndarray | None:
    values = constant(op.inputs[1])
    if values is None or values.dtype != np.float32 or values.ndim < 2:
        return None
    if any(length != 1 for length in values.shape[:-2]):
        return None
    matrix: np.ndarray = values.reshape(values.shape[-2:])
    return matrix


REWRITE = ConstantMatmul()
