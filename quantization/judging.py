"""How near a quantized file comes to the float model, on a few samples: what a repair asks.

Over all samples together, by the outputs, as the proof counts it; and sample by sample. The
second looks in front of a last softmax: probabilities are 0 or 1 but for a few samples, which
alone decide the noise over all, so that on other samples another file would be the better one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.tflite import loading, saving
from edgepipe.tflite.graph import Graph, Tensor

from .layer_errors import Noise
from .paired_graphs import dequantize, interpreter_of, quantize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Outputs = list[NDArray[Any]]

NOTHING = 0.01
"""Part of the mean noise; a sample with less of it before and after tells nothing."""
REACH = 8.0
"""What lies further below the largest value is nothing, on samples that are less sure, too."""
PASSING = ("QUANTIZE", "DEQUANTIZE", "RESHAPE")


@dataclass(frozen=True)
class Judged:
    """SQNR of the worst output over all samples, and each sample's noise."""

    sqnr_db: float
    noise: NDArray[np.float64]

    def gain_over(self, other: Judged) -> tuple[float, float]:
        """Decibels that a sample gains on average, and the standard error of that."""
        least = NOTHING * max(float(other.noise.mean()), 1e-30)
        telling = (self.noise > least) | (other.noise > least)
        if not telling.any():
            return 0.0, 0.0
        gains = 10 * np.log10((other.noise[telling] + least) / (self.noise[telling] + least))
        return float(gains.mean()), float(gains.std() / math.sqrt(len(gains)))


NOTHING_KNOWN = Judged(0.0, np.zeros(1))


@dataclass
class Bench:
    """The float model's outputs on some samples."""

    samples: Sequence[Sequence[NDArray[Any]]]
    """Feeds in the layouts and the order of the file."""
    wanted: list[Outputs] = field(default_factory=list)

    @staticmethod
    def of(path: Path, samples: Sequence[Sequence[NDArray[Any]]]) -> Bench:
        bench = Bench(samples)
        bench.wanted = list(bench._run(path))
        return bench

    @property
    def outputs(self) -> int:
        """Each is there twice: as it is, and as it is judged sample by sample."""
        return len(self.wanted[0]) // 2

    def _run(self, path: Path) -> Iterator[Outputs]:
        """The outputs, and behind them what is read by each softmax that makes one."""
        model = loading.load(path)
        graph = model.main
        found = [_before_softmax(graph, tensor) for tensor in graph.outputs]
        graph.outputs = [*graph.outputs, *(one for one in found if one is not None)]
        model.signatures = []
        interpreter = interpreter_of(saving.to_bytes(model))
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        for sample in self.samples:
            for details, array in zip(inputs, sample, strict=True):
                interpreter.set_tensor(details["index"], quantize(array, details))
            interpreter.invoke()
            made = [dequantize(interpreter.get_tensor(one["index"]), one).copy() for one in outputs]
            behind = iter(made[len(found) :])
            yield [
                *made[: len(found)],
                *(made[place] if one is None else _below_the_largest(next(behind))
                  for place, one in enumerate(found)),
            ]  # fmt: skip

    def judge(self, path: Path) -> Judged:
        count = len(self.wanted[0])
        totals = [Noise() for _ in range(count)]
        noises = np.zeros((count, len(self.wanted)))
        for place, (wanted, received) in enumerate(zip(self.wanted, self._run(path), strict=True)):
            for output, (total, a, b) in enumerate(zip(totals, wanted, received, strict=True)):
                if a.dtype.kind == "f":
                    before = total.noise
                    total.add(a, b.reshape(a.shape))
                    noises[output, place] = total.noise - before
        signals = np.array([[total.signal or 1.0] for total in totals[self.outputs :]])
        worst = min(total.sqnr_db for total in totals[: self.outputs])
        return Judged(worst, np.sum(noises[self.outputs :] / signals, 0))


def _before_softmax(graph: Graph, tensor: Tensor) -> Tensor | None:
    """What the softmax reads that makes this output; None where none does, or it is an end too."""
    maker = graph.producer(tensor)
    while maker is not None and maker.name in PASSING and maker.inputs[0] is not None:
        maker = graph.producer(maker.inputs[0])
    if maker is None or maker.name != "SOFTMAX":
        return None
    read = maker.inputs[0]
    return None if read in graph.outputs or read in graph.inputs else read


def _below_the_largest(values: NDArray[Any]) -> NDArray[Any]:
    """All that a softmax makes something of."""
    found: NDArray[Any] = np.maximum(values - values.max(-1, keepdims=True), -REACH)
    return found
