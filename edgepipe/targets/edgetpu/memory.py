"""What a model takes of the Edge TPU's memory: parameters by layer, activations at their peak.

The layout of parameters was read off compiled files, by looking for the scales of each layer in
them: outputs in groups of 64, each with its scales, biases, zero points, and weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgepipe.targets.edgetpu.rules import ON_CHIP, data
from edgepipe.tflite.graph import Graph, Op, Tensor

MIB = 1 << 20
SMALLEST_CACHE, LARGEST_CACHE = int(6.1 * MIB), int(8.05 * MIB)
"""Bytes for parameters on the chip: used and remaining in real logs. What a model gets of it
depends on its activations, in a way that isn't known."""
GROUP, SMALL_STEP, INPUT_STEP = 64, 16, 4
"""Outputs are filled up to whole groups, or to 16 where there is one group; inputs to 4."""
SCALE, ZERO, BIAS = 4, 4, 4
"""Bytes of an output: its scale and its zero point where each has its own, its bias where any is
not 0."""
SEEN = "seen in real compiled files"


@dataclass(frozen=True)
class Forecast:
    """Bytes. `streamed_least` and `streamed_most` are what the two ends of the cache leave over."""

    parameters: int
    largest_layer: int
    largest_layer_name: str
    streamed_least: int
    streamed_most: int
    peak_activations: int
    pressure: float
    """The peak in parts of the chip's activation memory; above 1 the compiler must cut layers."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "pressure": round(self.pressure, 3), "source": SEEN}

    def words(self) -> list[str]:
        """Lines for the command."""
        lines = [f"parameters: {_words(self.parameters)}, {self._streamed()}"]
        lines.append(
            f"activations: {_words(self.peak_activations)} at the peak,"
            f" {self.pressure:.0%} of the chip's {_words(ON_CHIP)}"
        )
        if self.pressure > 1:
            lines[-1] += "; the compiler has to cut layers, and may fail over it"
        return lines

    def _streamed(self) -> str:
        if not self.streamed_most:
            return "all cached on the chip"
        if self.streamed_least == self.streamed_most:
            return f"{_words(self.streamed_most)} streamed at every inference"
        least, most = _words(self.streamed_least), _words(self.streamed_most)
        return f"{least} to {most} of them streamed at every inference"


def forecast(graph: Graph, mapped: Sequence[Op]) -> Forecast:
    """Of the operators that are mapped."""
    sizes = [(parameters(op), op.outputs[0].name if op.outputs else "") for op in mapped]
    total = sum(size for size, _ in sizes)
    largest = max(sizes, default=(0, ""))
    peak = _peak(graph, {id(op) for op in mapped})
    return Forecast(
        total,
        *largest,
        max(0, total - LARGEST_CACHE),
        max(0, total - SMALLEST_CACHE),
        peak,
        peak / ON_CHIP,
    )


def _peak(graph: Graph, mapped: set[int]) -> int:
    """Of what mapped operators read and make, as long as something still reads it."""
    last = {id(one): place for place, op in enumerate(graph.ops) for one in op.reads()}
    last.update({id(one): len(graph.ops) for one in graph.outputs})
    alive: dict[int, int] = {}
    worst = 0
    for place, op in enumerate(graph.ops):
        if id(op) in mapped:
            alive.update({id(one): one.nbytes for one in data(op)})
            worst = max(worst, sum(alive.values()))
        alive = {key: size for key, size in alive.items() if last.get(key, -1) > place}
    return worst


def parameters(op: Op) -> int:
    """Bytes of one operator's constants as the compiler lays them out."""
    weights = op.inputs[1] if len(op.inputs) > 1 else None
    if op.name in ("CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        return _linear(weights, _beside(op))
    if op.name == "DEPTHWISE_CONV_2D":
        return _depthwise(op, weights)
    if op.name in ("UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM"):
        return sum(_linear(one, BIAS) for one in op.inputs[1:9])
    return 0


def _linear(weights: Tensor | None, beside: int) -> int:
    """(outputs, height, width, inputs) or (outputs, inputs)."""
    if weights is None or len(weights.shape) not in (2, 4):
        return 0
    outputs, *window, inputs = weights.shape
    filled = _up(outputs, SMALL_STEP if outputs <= GROUP else GROUP)
    return filled * (math.prod(window) * _up(inputs, INPUT_STEP) + beside)


def _depthwise(op: Op, weights: Tensor | None) -> int:
    """Each weight takes four bytes, and eight where an input makes several outputs."""
    if weights is None or len(weights.shape) != 4:
        return 0
    _, height, width, channels = weights.shape
    each = INPUT_STEP * (2 if int(op.option("depth_multiplier")) > 1 else 1)
    return channels * (height * width * each + _beside(op))


def _beside(op: Op) -> int:
    weights, bias = op.inputs[1], op.inputs[-1]
    known = weights.quantization if weights is not None else None
    found = SCALE + ZERO if known is not None and known.per_channel else 0
    biased = bias is not None and bias.dtype == "int32" and bias.is_constant
    if biased and bias is not None and bias.array().any():
        found += BIAS
    return found


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _words(count: int) -> str:
    if count < 10 * 1024:
        return f"{count:,} bytes"
    return f"{count / MIB:.2f} MiB" if count >= MIB else f"{count / 1024:.1f} KiB"
