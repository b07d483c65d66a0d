"""What is seen of a layer's weights and activations: ranges, outliers, saturation, dead ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.tflite.graph import Quantization, Tensor

from .paired_graphs import Layer, Pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .layer_errors import Reference

BULK = 99.9
"""Percent of the values that are the bulk; what lies beyond stretches the range."""
CHANNEL_AXIS = {"DEPTHWISE_CONV_2D": 3}
"""Where the weights' output channels lie; the first axis for all others."""


@dataclass(frozen=True)
class WeightFacts:
    """`spread` is the largest channel's magnitude over the median one's."""

    low: float
    high: float
    channels: int
    spread: float
    kurtosis: float
    sqnr_db: float | None
    per_channel: bool
    zero_channels: int

    def to_json(self) -> dict[str, Any]:
        return vars(self)


@dataclass
class Activation:
    """One float tensor over all samples. Samples are seen one by one and not kept."""

    low: float = math.inf
    high: float = -math.inf
    early: tuple[float, float] = (0.0, 0.0)
    bulk: float = 0.0
    beyond: int = 0
    count: int = 0
    samples: int = 0
    channels: NDArray[Any] | None = field(default=None, repr=False)
    rows: NDArray[Any] | None = field(default=None, repr=False)

    def add(self, values: NDArray[Any], calibrated: tuple[float, float] | None) -> None:
        if not values.size or values.dtype.kind != "f":
            return
        self.low, self.high = (
            min(self.low, float(values.min())),
            max(self.high, float(values.max())),
        )
        magnitude = np.abs(values)
        bulk = float(np.percentile(_thinned(magnitude), BULK))
        self.bulk = max(self.bulk, bulk)
        if calibrated is not None:
            step = (calibrated[1] - calibrated[0]) / 255
            outside = (values < calibrated[0] - step / 2) | (values > calibrated[1] + step / 2)
            self.beyond += int(np.count_nonzero(outside))
        self.count += values.size
        self.samples += 1
        if values.ndim >= 2:
            largest = magnitude.reshape(-1, values.shape[-1]).max(0)
            self.channels = _larger(self.channels, largest)
        if values.ndim == 3:
            self.rows = _larger(self.rows, magnitude.max((0, 2)))

    @property
    def seen(self) -> bool:
        return self.samples > 0

    @property
    def saturation(self) -> float:
        return self.beyond / self.count if self.count else 0.0

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high)) if self.seen else 0.0

    @property
    def stretch(self) -> float:
        """How far the largest value lies beyond the bulk."""
        return self.largest / self.bulk if self.bulk > 0 else 1.0

    @property
    def channel_spread(self) -> float:
        """The largest channel over the median one that isn't dead."""
        if self.channels is None:
            return 1.0
        alive = self.channels[self.channels > 0]
        return float(alive.max() / np.median(alive)) if alive.size > 1 else 1.0

    @property
    def row_spread(self) -> float:
        """The median row of a sequence over the smallest one: a class token among many others."""
        if self.rows is None or not self.rows.min() > 0:
            return 1.0
        return float(np.median(self.rows) / self.rows.min())

    @property
    def dead_channels(self) -> int:
        return 0 if self.channels is None else int(np.count_nonzero(self.channels == 0))

    def to_json(self) -> dict[str, Any]:
        if not self.seen:
            return {}
        return {
            "low": self.low,
            "high": self.high,
            "bulk": self.bulk,
            "saturation": self.saturation,
            "channels": None if self.channels is None else len(self.channels),
            "channel_spread": self.channel_spread,
            "dead_channels": self.dead_channels,
            "row_spread": self.row_spread,
        }


def _larger(one: NDArray[Any] | None, other: NDArray[Any]) -> NDArray[Any]:
    return other if one is None else np.maximum(one, other)


def _thinned(values: NDArray[Any], most: int = 50_000) -> NDArray[Any]:
    flat = values.ravel()
    return flat[:: max(1, flat.size // most)]


def calibrated_range(tensor: Tensor) -> tuple[float, float] | None:
    """The real numbers that an integer tensor can hold; None where it holds them itself."""
    found = tensor.quantization
    if found is None or len(found.scales) != 1 or "int" not in tensor.dtype:
        return None
    limits = np.iinfo(tensor.dtype)
    zero = found.zero_points[0] if found.zero_points else 0
    scale = found.scales[0]
    return (float(limits.min) - zero) * scale, (float(limits.max) - zero) * scale


class Observed:
    """Activations of the float model beside the ranges that the quantized one has for them."""

    def __init__(self, pair: Pair) -> None:
        self.ranges: dict[str, tuple[float, float]] = {}
        for tensor in pair.quantized.main.all_tensors():
            name, held = pair.stands_for.get(tensor.name), calibrated_range(tensor)
            if name is not None and held is not None:
                self.ranges.setdefault(name, held)
        names = [tensor.name for tensor in pair.original.main.inputs]
        names += [name for layer in pair.layers for name in (*layer.reads, layer.makes)]
        self.found = {name: Activation() for name in dict.fromkeys(names)}

    def add(self, reference: Reference) -> None:
        for name, activation in self.found.items():
            activation.add(reference.value(name), self.ranges.get(name))


def weight_facts(layer: Layer) -> WeightFacts | None:
    """Of the largest float constant that the layer reads; None where it has none."""
    assert layer.original is not None
    constants = [
        (place, tensor)
        for place, tensor in enumerate(layer.original.inputs)
        if tensor is not None and tensor.is_constant and tensor.dtype == "float32"
    ]
    if not constants:
        return None
    place, tensor = max(constants, key=lambda item: item[1].elements)
    values = tensor.array().astype(np.float64)
    if values.ndim < 2 or not values.size:
        return None
    axis = CHANNEL_AXIS.get(layer.op.name, 0)
    largest = np.abs(np.moveaxis(values, axis, 0)).reshape(values.shape[axis], -1).max(1)
    alive = largest[largest > 0]
    now = layer.op.inputs[place] if place < len(layer.op.inputs) else None
    return WeightFacts(
        low=float(values.min()),
        high=float(values.max()),
        channels=len(largest),
        spread=float(alive.max() / np.median(alive)) if alive.size else 1.0,
        kurtosis=_kurtosis(values),
        sqnr_db=None if now is None else _loss(values, now),
        per_channel=bool(now is not None and _of(now).per_channel),
        zero_channels=int(np.count_nonzero(largest == 0)),
    )


def _of(tensor: Tensor) -> Quantization:
    return tensor.quantization or Quantization()


def _kurtosis(values: NDArray[Any]) -> float:
    """3 for normal noise; large where a few weights are far out."""
    centred = values - values.mean()
    variance = float(np.mean(centred**2))
    return float(np.mean(centred**4)) / variance**2 if variance else 0.0


def _loss(values: NDArray[Any], now: Tensor) -> float | None:
    if not now.is_constant or now.shape != values.shape:
        return None
    noise = float(np.mean((values - now.real()) ** 2))
    signal = float(np.mean(values**2))
    return 10 * math.log10(signal / noise) if noise and signal else None
