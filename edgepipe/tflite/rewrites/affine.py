"""Moves scales and shifts per channel into the weights of the layers around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant
from edgepipe.tflite.rewrite import Rewrite

Vector = NDArray[np.float32]

_LAYERS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")


class Affine(Rewrite):
    """x * scale and x + shift, one number for each channel or one for all.

    In int8 each rounds all numbers once more, and a channel with a large scale leaves few steps
    to the others; in weights with a scale per channel, neither is lost.
    1. Behind a layer without an activation that nothing else reads: into that layer
       (layer scale of ConvNeXt, batch normalizations that were left).
    2. In front of layers only: into those (scale and shift of a layer normalization, mean and
       deviation of a picture). Not a shift in front of a padded window: the padding has none. A
       scale passes a PAD, as zeros stay zeros.
    """

    name: ClassVar[str] = "affine"
    says: ClassVar[str] = "scales and shifts per channel went into the layers around them"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("MUL", "ADD", "SUB"):
            if _affine(op) is not None and (_before(graph, op) or _behind(graph, op)):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        parts = _affine(op)
        if parts is None:
            return False
        source, scale, shift = parts
        before = _before(graph, op)
        if before is not None:
            _scale_outputs(before, scale, shift)
            before.outputs = op.outputs
            if before.options is not None and op.activation != "NONE":
                before.options.fused_activation_function = op.activation
        else:
            layers = _behind(graph, op)
            for layer in layers:
                _scale_inputs(layer, scale, shift)
            for reader in graph.consumers(op.outputs[0]):
                reader.inputs[0] = source
            if not layers:
                return False
        edit.remove(graph, [op])
        return True


def _affine(op: Op) -> tuple[Tensor, Vector, Vector] | None:
    """What it is of, the scale and the shift, one for each channel."""
    first, second = op.inputs
    if first is None or second is None:
        return None
    if op.name != "SUB" and first.is_constant:
        first, second = second, first
    values, channels = constant(second), first.shape[-1:]
    if first.is_constant or values is None or values.dtype != np.float32 or not channels:
        return None
    if first.shape != op.outputs[0].shape or values.size not in (1, channels[0]):
        return None
    if values.size > 1 and values.shape[-1:] != channels:
        return None
    vector = np.broadcast_to(values.reshape(-1), channels)
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    if op.name == "MUL":
        return first, vector, zeros
    return first, ones, vector if op.name == "ADD" else -vector


def _before(graph: Graph, op: Op) -> Op | None:
    """The layer that makes what is scaled, where that is for nothing else."""
    source = next((one for one in op.reads() if not one.is_constant), None)
    layer = graph.producer(source) if source is not None else None
    if source is None or layer is None or not _is_layer(layer) or layer.activation != "NONE":
        return None
    alone = len(graph.consumers(source)) == 1 and source not in graph.outputs
    return layer if alone and layer.options is not None else None


def _behind(graph: Graph, op: Op) -> list[Op]:
    """The layers that read the result, none where something else reads it, too."""
    target = op.outputs[0]
    if op.activation != "NONE" or target in graph.outputs:
        return []
    layers: list[Op] = []
    for reader in graph.consumers(target):
        through, read = [reader], target
        if reader.name == "PAD" and op.name == "MUL" and reader.outputs[0] not in graph.outputs:
            read = reader.outputs[0]
            through = graph.consumers(read)
        if not through or not all(_takes(one, read, op.name != "MUL") for one in through):
            return []
        layers += through
    return layers


def _is_layer(layer: Op) -> bool:
    if layer.name not in _LAYERS or layer.outputs[0].dtype != "float32":
        return False
    weights = constant(layer.inputs[1])
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    if weights is None or weights.dtype != np.float32:
        return False
    return bias is None or constant(bias) is not None


def _takes(layer: Op, target: Tensor, shifted: bool) -> bool:
    if not _is_layer(layer) or layer.inputs[0] is not target or target in layer.inputs[1:]:
        return False
    weights = constant(layer.inputs[1])
    channels = target.shape[-1]
    if weights is None or weights.shape[-1] % channels:
        return False
    if layer.name != "DEPTHWISE_CONV_2D" and weights.shape[-1] != channels:
        return False  # grouped, or flattened on the way in
    if layer.name == "FULLY_CONNECTED":
        return True
    return not shifted or weights.shape[1:3] == (1, 1) or layer.option("padding") == "VALID"


def _scale_outputs(layer: Op, scale: Vector, shift: Vector) -> None:
    weights, bias = _weights(layer)
    if layer.name == "DEPTHWISE_CONV_2D":
        scaled = weights * scale
    else:
        scaled = weights * scale.reshape(-1, *(1,) * (weights.ndim - 1))
    _give(layer, scaled, bias * scale + shift)


def _scale_inputs(layer: Op, scale: Vector, shift: Vector) -> None:
    weights, bias = _weights(layer)
    if layer.name == "DEPTHWISE_CONV_2D":
        # Output channel c of multiplier m reads input channel c // m.
        times = weights.shape[-1] // len(scale)
        scale, shift = np.repeat(scale, times), np.repeat(shift, times)
        added = (weights * shift).reshape(-1, weights.shape[-1]).sum(axis=0)
    else:
        added = (weights * shift).reshape(len(weights), -1).sum(axis=1)
    _give(layer, weights * scale, bias + added)


def _weights(layer: Op) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and bias, wide enough that what is folded in is rounded once."""
    weights = constant(layer.inputs[1])
    assert weights is not None
    bias = constant(layer.inputs[2]) if len(layer.inputs) > 2 else None
    channels = weights.shape[-1] if layer.name == "DEPTHWISE_CONV_2D" else len(weights)
    given = np.zeros(channels) if bias is None else bias.reshape(-1).astype(np.float64)
    return weights.astype(np.float64), given


def _give(layer: Op, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
    name = layer.outputs[0].name
    layer.inputs[1:] = [
        Tensor.constant(f"{name}_weights", weights.astype(np.float32)),
        Tensor.constant(f"{name}_bias", bias.astype(np.float32)),
    ]


REWRITE = Affine()
