"""Chooses what the integers in front of a softmax stand for by what the softmax makes of them.

It turns differences into ratios: what lies far below the largest value gives nothing, and where
the largest is far above all others it may as well be nearer. A range that leaves both out has
finer steps where the answer is decided; with coarse ones two classes get the same integer, and
whoever takes the largest takes the first of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.tflite import loading
from edgepipe.tflite.graph import Graph, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS_OF_A_SAMPLE = 8
MOST_NUMBERS = 1 << 16
"""Kept of one softmax, however many samples there are."""
FRACTIONS = np.linspace(0.05, 1.0, 39)
"""Parts of the full range that are tried for each of its ends."""
TURNS = 2
LEVELS, PROBABILITIES = 255, 256


class Rows:
    """Some of the rows that a softmax took, spread over all samples."""

    def __init__(self) -> None:
        self.kept: list[NDArray[np.float32]] = []
        self.samples = 0
        self.stride = 1

    def add(self, values: NDArray[Any]) -> None:
        """Of each sample some; of every second one as soon as there are too many, and so on."""
        if self.samples % self.stride == 0:
            rows = values.reshape(-1, values.shape[-1])
            if self.kept and self.kept[0].shape[1] != rows.shape[1]:
                return  # How many it takes depends on the data.
            step = -(-len(rows) // ROWS_OF_A_SAMPLE)
            self.kept.append(rows[self.samples % step :: step].astype(np.float32))
            if sum(one.size for one in self.kept) > MOST_NUMBERS:
                self.kept = self.kept[::2]
                self.stride *= 2
        self.samples += 1

    def range(self, beta: float) -> tuple[float, float] | None:
        """The one with the least error of the probabilities; None where there is no choice."""
        rows = np.concatenate(self.kept) if self.kept else np.zeros((0, 1), np.float32)
        rows = rows[np.isfinite(rows).all(1)]
        low, high = min(float(rows.min(initial=0)), 0.0), max(float(rows.max(initial=0)), 0.0)
        if not low < high:
            return None
        wanted = _softmax(rows, beta)

        def error(down: float, up: float) -> float:
            stored = _through_integers(rows, down * low, up * high)
            given = np.rint(_softmax(stored, beta) * PROBABILITIES) / PROBABILITIES
            return float(np.sum(np.square(given - wanted)))

        down = up = 1.0
        for _ in range(TURNS):
            down = float(min(reversed(FRACTIONS), key=lambda part: error(part, up)))
            up = float(min(reversed(FRACTIONS), key=lambda part: error(down, part)))
        return down * low, up * high


def sources(path: Path) -> dict[str, tuple[float, tuple[str, ...]]]:
    """What only a softmax reads -> its beta, and the tensors that share the scale."""
    graph = loading.load(path).main
    found = {}
    for op in graph.operators("SOFTMAX"):
        tensors = _of_one_scale(graph, op.inputs[0])
        if tensors:
            beta = float(op.option("beta"))
            found[tensors[0].name] = beta, tuple(tensor.name for tensor in tensors)
    return found


def _of_one_scale(graph: Graph, tensor: Tensor | None) -> list[Tensor]:
    """The tensor and those it is a copy of, as long as nobody else reads them."""
    found: list[Tensor] = []
    while tensor is not None and tensor not in graph.outputs and tensor not in graph.inputs:
        if len(graph.consumers(tensor)) != 1:
            return []
        found.append(tensor)
        maker = graph.producer(tensor)
        if maker is None or maker.name not in ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"):
            return found
        tensor = maker.inputs[0]
    return []


def _softmax(rows: NDArray[Any], beta: float) -> NDArray[Any]:
    powers = np.exp(beta * (rows - rows.max(-1, keepdims=True)))
    found: NDArray[Any] = powers / powers.sum(-1, keepdims=True)
    return found


def _through_integers(rows: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    scale = max(high - low, 1e-30) / LEVELS
    zero = round(-low / scale)
    stored: NDArray[Any] = (np.clip(np.rint(rows / scale) + zero, 0, LEVELS) - zero) * scale
    return stored
