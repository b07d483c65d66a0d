"""A histogram of a stream of values whose range isn't known beforehand; its size is fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 4096
"""Twice what calibration needs: after the range has doubled past the data, half may be empty."""
LEAST_SPAN = 1e-12
LARGEST_SAMPLE = 8192
"""Values of one tensor and one sample that are counted; a stride picks them from larger ones.
Least and greatest are exact, whatever is counted."""


class Histogram:
    """Grows by doubling its range and joining its bins in pairs, so that nothing is kept twice."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.low = 0.0
        self.span = 0.0

    def add(self, values: NDArray[Any], least: float, greatest: float) -> None:
        """Count finite `values` that lie between `least` and `greatest`."""
        if values.size > LARGEST_SAMPLE:
            values = values[:: _stride(values.size)]
        self._cover(least, greatest)
        places = ((values - self.low) * (BINS / self.span)).astype(np.int64)
        np.clip(places, 0, BINS - 1, out=places)
        self.counts += np.bincount(places, minlength=BINS)

    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        middles = self.low + (np.arange(BINS) + 0.5) * (self.span / BINS)
        return np.asarray(middles, np.float64)

    def _cover(self, least: float, greatest: float) -> None:
        if not self.span:
            self.low, self.span = least, max(greatest - least, LEAST_SPAN, abs(least) * 1e-6)
        while greatest > self.low + self.span:
            joined = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.concatenate([joined, np.zeros_like(joined)])
            self.span *= 2
        while least < self.low:
            joined = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.concatenate([np.zeros_like(joined), joined])
            self.low -= self.span
            self.span *= 2


def _stride(size: int) -> int:
    """An odd one: channels come in powers of two, and each must have its turn."""
    return -(-size // LARGEST_SAMPLE) | 1
