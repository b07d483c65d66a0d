"""Moves the scale and shift behind a normalization into the layers that read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant, split_operands
from edgepipe.tflite.rewrite import Rewrite

Vector = NDArray[np.float32]


class Affine(Rewrite):
    """x * scale + shift, per channel, read by dense layers and 1x1 convolutions only.

    A layer normalization ends with a scale and a shift of its channels. In int8 each rounds all
    numbers once more, and a channel with a large scale leaves few steps to the others; in the
    weights behind them, neither is lost.
    """

    name: ClassVar[str] = "affine"
    says: ClassVar[str] = "scale and shift of normalizations went into the layers behind them"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("MUL", "ADD"):
            if op.activation == "NONE" and _vector(op) is not None and _layers(graph, op):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        operands, vector = split_operands(op), _vector(op)
        if operands is None or vector is None:
            return False
        gone = [op]
        scale = vector if op.name == "MUL" else np.ones_like(vector)
        shift = vector if op.name == "ADD" else np.zeros_like(vector)
        source = operands[0]
        before = graph.producer(source)
        if op.name == "ADD" and before is not None and _scales_alone(graph, before):
            inner, factors = split_operands(before), _vector(before)
            if inner is not None and factors is not None and factors.shape == vector.shape:
                source, scale = inner[0], factors
                gone.insert(0, before)
        for layer in _layers(graph, op):
            _absorb(layer, scale, shift)
            layer.inputs[0] = source
        edit.remove(graph, gone)
        return True


def _scales_alone(graph: Graph, op: Op) -> bool:
    return op.name == "MUL" and op.activation == "NONE" and len(graph.consumers(op.outputs[0])) == 1


def _vector(op: Op) -> Vector | None:
    """The constant operand, one number for each channel."""
    operands = split_operands(op)
    if operands is None or operands[0].shape != op.outputs[0].shape or not operands[0].shape:
        return None
    values = constant(operands[1])
    channels = operands[0].shape[-1]
    if values is None or values.dtype != np.float32 or values.size != channels:
        return None
    return None if values.shape[-1:] != (channels,) else values.reshape(-1)


def _layers(graph: Graph, op: Op) -> list[Op]:
    """The layers that read the result, none where something else reads it, too."""
    target = op.outputs[0]
    readers = graph.consumers(target)
    if target in graph.outputs or not all(_takes(reader, target) for reader in readers):
        return []
    return readers


def _takes(layer: Op, target: Tensor) -> bool:
    if layer.name not in ("FULLY_CONNECTED", "CONV_2D") or layer.inputs[0] is not target:
        return False
    weights = constant(layer.inputs[1])
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    if weights is None or weights.dtype != np.float32 or weights.shape[-1] != target.shape[-1]:
        return False
    if bias is not None and constant(bias) is None:
        return False
    # A larger window would see the shift only inside of the picture, and not in its padding.
    return layer.name == "FULLY_CONNECTED" or weights.shape[1:3] == (1, 1)


def _absorb(layer: Op, scale: Vector, shift: Vector) -> None:
    weights = constant(layer.inputs[1])
    bias = constant(layer.inputs[2]) if len(layer.inputs) > 2 else None
    assert weights is not None
    name = layer.outputs[0].name
    wide = weights.astype(np.float64)
    added = (wide * shift).reshape(len(weights), -1).sum(axis=1)
    total = added if bias is None else bias.astype(np.float64) + added
    layer.inputs[1:] = [
        Tensor.constant(f"{name}_weights", (wide * scale).astype(np.float32)),
        Tensor.constant(f"{name}_bias", total.astype(np.float32)),
    ]


REWRITE = Affine()
