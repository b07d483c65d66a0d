"""Turns matrix products with a constant into dense layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant
from edgepipe.tflite.rewrite import Rewrite

Matrices = NDArray[np.float32]

MOST = 32
"""Matrices of one product: each becomes a layer of its own."""


class ConstantMatmul(Rewrite):
    """BATCH_MATMUL with a constant, on either side: FULLY_CONNECTED.

    ai-edge-quantizer 0.10 gives the constant a scale per channel, which LiteRT 2.3's int8
    BATCH_MATMUL doesn't know: the result is all zeros, without a word.
    1. One matrix: one layer.
    2. A matrix for each of a batch: a layer for each, on its slice.
    3. The constant first: as the second of what is turned round, and turned back.
    """

    name: ClassVar[str] = "constant_matmul"
    says: ClassVar[str] = "BATCH_MATMUL with a constant became FULLY_CONNECTED"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("BATCH_MATMUL"):
            if _parts(op) is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        parts = _parts(op)
        if parts is None:
            return False
        source, weights, turn, turn_back = parts
        layers = _Layers(op.outputs[0])
        if turn:
            source = layers.turned(source)
        shape = (*source.shape[:-1], weights.shape[-2])
        product = layers.each(source, weights, shape)
        if turn_back:
            layers.turned(product)
        layers.ops[-1].outputs = op.outputs
        edit.substitute(graph, [op], layers.ops)
        return True


def _parts(op: Op) -> tuple[Tensor, Matrices, bool, bool] | None:
    """The changing operand, for each of its matrices rows of weights, and what is turned."""
    first, second = op.inputs
    if first is None or second is None:
        return None
    if first.is_constant:
        changing, turn, turn_back = second, not op.option("adj_y"), True
        values = constant(first)
        rows = values if not op.option("adj_x") else _turned(values)
    else:
        changing, turn, turn_back = first, op.option("adj_x"), False
        values = constant(second)
        rows = values if op.option("adj_y") else _turned(values)
    if rows is None or rows.dtype != np.float32 or rows.ndim < 2 or changing.dynamic:
        return None
    if len(changing.shape) != len(op.outputs[0].shape) or len(changing.shape) < 2:
        return None
    count = math.prod(rows.shape[:-2])
    if count > 1 and (rows.shape[:-2] != changing.shape[:-2] or count > MOST):
        return None
    return changing, rows.reshape(count, *rows.shape[-2:]), turn, turn_back


def _turned(values: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if values is None or values.ndim < 2 else values.swapaxes(-1, -2)


class _Layers:
    def __init__(self, target: Tensor) -> None:
        self.target, self.ops = target, list[Op]()

    def add(
        self, name: str, operands: list[Tensor], shape: tuple[int, ...], **options: Any
    ) -> Tensor:
        made = self.target.like(f"{self.target.name}_{len(self.ops)}", shape=shape, signature=())
        self.ops.append(Op.make(name, operands, [made], **options))
        return made

    def constant(self, values: Any) -> Tensor:
        return Tensor.constant(f"{self.target.name}_{len(self.ops)}_constant", values)

    def turned(self, source: Tensor) -> Tensor:
        *others, rows, columns = range(len(source.shape))
        order = self.constant(np.asarray([*others, columns, rows], np.int32))
        shape = (*source.shape[:-2], source.shape[-1], source.shape[-2])
        return self.add("TRANSPOSE", [source, order], shape)

    def each(self, source: Tensor, weights: Matrices, shape: tuple[int, ...]) -> Tensor:
        if len(weights) == 1:
            return self.layer(source, weights[0], shape)
        height, width = source.shape[-2:]
        flat = self.reshaped(source, (len(weights), height, width))
        size = self.constant(np.asarray([1, height, width], np.int32))
        parts = []
        for number, matrix in enumerate(weights):
            begin = self.constant(np.asarray([number, 0, 0], np.int32))
            part = self.add("SLICE", [flat, begin, size], (1, height, width))
            parts.append(self.layer(part, matrix, (1, height, len(matrix))))
        joined = self.add("CONCATENATION", parts, (len(weights), height, shape[-1]), axis=0)
        return self.reshaped(joined, shape)

    def layer(self, source: Tensor, matrix: Matrices, shape: tuple[int, ...]) -> Tensor:
        weights = self.constant(np.ascontiguousarray(matrix))
        bias = Tensor.constant(f"{weights.name}_bias", np.zeros(len(matrix), np.float32))
        wide = len(shape) > 2
        return self.add("FULLY_CONNECTED", [source, weights, bias], shape, keep_num_dims=wide)

    def reshaped(self, source: Tensor, shape: tuple[int, ...]) -> Tensor:
        if source.shape == shape:
            return source
        return self.add("RESHAPE", [source, self.constant(np.asarray(shape, np.int32))], shape)


REWRITE = ConstantMatmul()
