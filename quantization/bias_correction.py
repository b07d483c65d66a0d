"""Takes back the mean error that rounding the weights leaves in each channel.

Weights that are rounded shift a layer's output by the same amount on every input. What each
integer layer gives beyond its float one, averaged over samples and places, is taken off the
float bias; the model is then quantized again, with the ranges that it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Op, Tensor

from .layer_errors import Reference
from .paired_graphs import Pair, Single

if TYPE_CHECKING:
    from numpy.typing import NDArray

BIASED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
BIAS = 2
LINEAR_ENOUGH = ("NONE", "RELU")
"""Behind other activations the error says little of what came before."""


def correct(
    original: Path, quantized: Path, samples: Sequence[Sequence[NDArray[Any]]], out: Path
) -> int:
    """Write the float model with corrected biases; how many layers were."""
    means = _mean_errors(original, quantized, samples)
    model = loading.load(original)
    count = 0
    for op in model.main.ops:
        mean = means.get(op.outputs[0].name)
        if mean is not None and _has_bias(op):
            bias = op.inputs[BIAS]
            assert bias is not None
            values = bias.array().reshape(-1) - mean.astype(np.float32)
            op.inputs[BIAS] = Tensor.constant(bias.name, values)
            count += 1
    edit.prune(model.main)
    edit.name_apart(model)  # Layers may have shared what each has of its own now.
    saving.save(model, out)
    return count


def _has_bias(op: Op) -> bool:
    bias = op.inputs[BIAS] if len(op.inputs) > BIAS else None
    known = bias is not None and bias.is_constant and bias.dtype == "float32"
    return op.name in BIASED and known and op.activation in LINEAR_ENOUGH


def _mean_errors(
    original: Path, quantized: Path, samples: Sequence[Sequence[NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Tensor -> mean of what the integer layer gives beyond the float one, by channel."""
    pair, reference = Pair(original, quantized), Reference(original)
    layers = [
        layer
        for layer in pair.layers
        if layer.original is not None and layer.integer and _has_bias(layer.original)
    ]
    kernels = [
        (layer, Single(pair.quantized, layer.op), Single(pair.original, layer.original))
        for layer in layers
        if layer.original is not None
    ]
    sums: dict[str, NDArray[Any]] = {}
    counts: dict[str, NDArray[Any]] = {}
    for sample in samples:
        reference.run(sample)
        for layer, integer, floating in kernels:
            values = [reference.value(name) for name in layer.reads]
            wanted = floating.run(integer.rounded(values))
            error = integer.run(values).reshape(wanted.shape) - wanted
            # A range that cuts off what is rare shifts the mean of that, and of nothing else.
            low, high = integer.limits()
            held = ((wanted >= low) & (wanted <= high)).reshape(-1, wanted.shape[-1])
            total = np.sum(error.reshape(held.shape), 0, where=held)
            sums[layer.makes] = sums.get(layer.makes, 0) + total
            counts[layer.makes] = counts.get(layer.makes, 0) + held.sum(0)
    means = {name: total / np.maximum(counts[name], 1) for name, total in sums.items()}
    return {name: mean for name, mean in means.items() if np.isfinite(mean).all()}
