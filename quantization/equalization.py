"""Cross-layer equalization: channels of unlike ranges between two linear layers are made alike.

Between two layers with at most a ReLU a channel may be divided by a positive factor in the first
and multiplied by it in the second. The factor is the root of what the channel reaches over the
weights that read it, so that neither its activations nor those weights are left with too few
steps (the idea is that of Nagel and others, 2019, arXiv:1906.04721, with activations for ranges).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Graph, Op, Tensor

from .layer_errors import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINEAR = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
PASSES_FACTORS = ("NONE", "RELU")
WEIGHTS, BIAS = 1, 2
MOST = 64.0
"""A channel that hardly lives on these samples may live on others."""


def equalize(path: Path, samples: Sequence[Sequence[NDArray[Any]]], out: Path) -> int:
    """Write the float model with equalized pairs; how many there were."""
    model = loading.load(path)
    pairs = list(_pairs(model.main))
    if not pairs:
        return 0
    reached = _reached(path, [first.outputs[0].name for first, _ in pairs], samples)
    for first, second in pairs:
        _scale(first, second, _factors(reached[first.outputs[0].name], second))
    edit.prune(model.main)
    edit.name_apart(model)  # Layers may have shared what each has of its own now.
    saving.save(model, out)
    return len(pairs)


def _pairs(graph: Graph) -> Iterator[tuple[Op, Op]]:
    """Layers whose result only one other reads, as its data."""
    ends = {id(tensor) for tensor in graph.outputs}
    for first in graph.operators(*LINEAR):
        result = first.outputs[0]
        readers = graph.consumers(result)
        if len(readers) != 1 or id(result) in ends or first.activation not in PASSES_FACTORS:
            continue
        (second,) = readers
        if (
            second.name in LINEAR
            and second.inputs[0] is result
            and _has_weights(first)
            and _has_weights(second)
            and _channels_read(second) == result.shape[-1]
        ):
            yield first, second


def _has_weights(op: Op) -> bool:
    constants = [tensor for tensor in op.inputs[WEIGHTS:] if tensor is not None]
    return all(tensor.is_constant and tensor.dtype == "float32" for tensor in constants)


def _weights(op: Op) -> Tensor:
    weights = op.inputs[WEIGHTS]
    assert weights is not None
    return weights


def _channels_read(op: Op) -> int:
    """Input channels, of which a depthwise layer makes one output each, or it isn't this case."""
    return _weights(op).shape[-1]


def _reached(
    path: Path, names: Sequence[str], samples: Sequence[Sequence[NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    reference = Reference(path)
    found: dict[str, NDArray[Any]] = {}
    for sample in samples:
        reference.run(sample)
        for name in names:
            value = reference.value(name)
            largest = np.abs(value).reshape(-1, value.shape[-1]).max(0)
            found[name] = np.maximum(found.get(name, largest), largest)
    return found


def _factors(reached: NDArray[Any], second: Op) -> NDArray[Any]:
    """Their geometric mean is 1; channels that are dead keep their scale."""
    weights = np.abs(_weights(second).array())
    read = weights.reshape(-1, weights.shape[-1]).max(0)
    alive = (reached > 0) & (read > 0)
    factors: NDArray[Any] = np.ones(len(reached), np.float64)
    factors[alive] = np.sqrt(reached[alive] / read[alive])
    if alive.any():
        factors[alive] /= np.exp(np.log(factors[alive]).mean())
    kept: NDArray[Any] = np.clip(factors, 1 / MOST, MOST).astype(np.float32)
    return kept


def _scale(first: Op, second: Op, factors: NDArray[Any]) -> None:
    """The first's outputs are divided, the second's readings multiplied."""
    weights = _weights(first)
    values = weights.array()
    by_output = factors if first.name == "DEPTHWISE_CONV_2D" else _along_first(factors, values.ndim)
    first.inputs[WEIGHTS] = Tensor.constant(weights.name, values / by_output)
    bias = first.inputs[BIAS] if len(first.inputs) > BIAS else None
    if bias is not None:
        first.inputs[BIAS] = Tensor.constant(bias.name, bias.array().reshape(-1) / factors)
    weights = _weights(second)
    second.inputs[WEIGHTS] = Tensor.constant(weights.name, weights.array() * factors)


def _along_first(factors: NDArray[Any], rank: int) -> NDArray[Any]:
    return factors.reshape(-1, *[1] * (rank - 1))
