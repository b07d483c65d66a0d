"""From what was seen of a tensor to the range that its integers shall cover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .histograms import Histogram
from .softmax_ranges import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("min-max", "moving-average", "percentile", "mse", "entropy")
SMOOTHING = 0.95
"""Weight of what was seen before, as ai-edge-quantizer has it (`moving_average_update`)."""
FRACTIONS = np.linspace(0.2, 1.0, 41)
"""Parts of the full range that mse and entropy try for each of its ends."""
MOST_CUT = 1e-3
"""Share of the values that entropy may leave outside. The counts of few samples are uneven from
bin to bin, and a narrower range always seems to lose less of that: on the digits it cut until
4 % of the answers were lost."""
LEVELS = 256


@dataclass
class Seen:
    """What is kept of one tensor over all samples."""

    histogram: Histogram | None
    rank: int = 0
    least: float = np.inf
    greatest: float = -np.inf
    smooth_least: float = np.nan
    smooth_greatest: float = np.nan
    samples: int = field(default=0)
    rows: Rows | None = None
    """Kept where a softmax reads the tensor."""

    def add(self, values: NDArray[Any]) -> None:
        least, greatest = float(values.min()), float(values.max())
        if not (np.isfinite(least) and np.isfinite(greatest)):
            values = values[np.isfinite(values)]
            if not values.size:
                return
            least, greatest = float(values.min()), float(values.max())
        self.least, self.greatest = min(self.least, least), max(self.greatest, greatest)
        if self.samples:
            least_part = SMOOTHING * self.smooth_least + (1 - SMOOTHING) * least
            greatest_part = SMOOTHING * self.smooth_greatest + (1 - SMOOTHING) * greatest
            self.smooth_least, self.smooth_greatest = least_part, greatest_part
        else:
            self.smooth_least, self.smooth_greatest = least, greatest
        self.samples += 1
        if self.rows is not None:
            self.rows.add(values)
        if self.histogram is not None:
            self.histogram.add(values.reshape(-1), least, greatest)


def needs_histogram(method: str) -> bool:
    return method in _FROM_HISTOGRAM


def range_of(seen: Seen, method: str, percentile: float) -> tuple[float, float]:
    """Least and greatest real number that the integers shall stand for."""
    if method == "moving-average":
        return seen.smooth_least, seen.smooth_greatest
    if method == "min-max" or seen.histogram is None or seen.least == seen.greatest:
        return seen.least, seen.greatest
    low, high = _FROM_HISTOGRAM[method](seen.histogram, seen, percentile)
    # A bin's middle may lie beyond the last value that was seen.
    return max(low, seen.least), min(high, seen.greatest)


def _percentile(histogram: Histogram, seen: Seen, percentile: float) -> tuple[float, float]:
    """Cuts the same share off both ends; an end at zero (after a ReLU) stays there."""
    share = (1 - percentile / 100) / 2
    reached = np.cumsum(histogram.counts) / histogram.counts.sum()
    middles = histogram.centres()
    low = float(middles[int(np.searchsorted(reached, share))])
    high = float(middles[min(int(np.searchsorted(reached, 1 - share)), len(middles) - 1)])
    return (seen.least if seen.least >= 0 else low), (seen.greatest if seen.greatest <= 0 else high)


def _mse(histogram: Histogram, seen: Seen, percentile: float) -> tuple[float, float]:
    """The part of the range with the least squared error, of rounding and of clipping together."""
    del percentile
    middles, counts = _filled(histogram)

    def error(low: float, high: float) -> float:
        return float(np.sum(counts * np.square(_through_integers(middles, low, high) - middles)))

    return _best(seen, error)


def _entropy(histogram: Histogram, seen: Seen, percentile: float) -> tuple[float, float]:
    """The part of the range whose integers lose least information (Kullback-Leibler).

    As in TensorRT's calibration: what lies outside is added to the outermost bins of the
    wanted distribution, and is missing in the one that the integers give.
    """
    del percentile
    middles, counts = histogram.centres(), histogram.counts.astype(np.float64)
    half = histogram.span / len(counts) / 2

    def divergence(low: float, high: float) -> float:
        inside = (middles >= low - half) & (middles <= high + half)
        kept = counts[inside]
        if kept.size < 2 or kept.sum() < (1 - MOST_CUT) * counts.sum():
            return float(np.inf)
        wanted = kept.copy()
        wanted[0] += counts[middles < low - half].sum()
        wanted[-1] += counts[middles > high + half].sum()
        step = max(high - low, 1e-30) / (LEVELS - 1)
        level = np.rint((middles[inside].clip(low, high) - low) / step).astype(np.int64)
        filled = kept > 0
        sums = np.bincount(level, kept, LEVELS)
        numbers = np.maximum(np.bincount(level, filled, LEVELS), 1)
        given = np.where(filled, (sums / numbers)[level], 0.0)
        p, q = wanted / wanted.sum(), given / given.sum()
        both = p > 0
        return float(np.sum(p[both] * np.log(p[both] / np.maximum(q[both], 1e-12))))

    return _best(seen, divergence)


def _best(seen: Seen, cost: Callable[[float, float], float]) -> tuple[float, float]:
    """Zero must be among the integers, so each end shrinks towards it: both, then one by one."""
    low, high = min(seen.least, 0.0), max(seen.greatest, 0.0)
    part = _least(lambda part: cost(part * low, part * high))
    if not low or not high:
        return part * low, part * high
    upper = _least(lambda up: cost(part * low, up * high))
    lower = _least(lambda down: cost(down * low, upper * high))
    return lower * low, upper * high


def _least(cost: Callable[[float], float]) -> float:
    return float(FRACTIONS[int(np.argmin([cost(float(part)) for part in FRACTIONS]))])


def _filled(histogram: Histogram) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    filled = histogram.counts > 0
    return histogram.centres()[filled], histogram.counts[filled].astype(np.float64)


def _through_integers(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    scale = max(high - low, 1e-30) / (LEVELS - 1)
    zero = round(-low / scale)
    stored = np.clip(np.rint(values / scale) + zero, 0, LEVELS - 1)
    real: NDArray[np.float64] = (stored - zero) * scale
    return real


_FROM_HISTOGRAM: dict[str, Callable[[Histogram, Seen, float], tuple[float, float]]] = {
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
