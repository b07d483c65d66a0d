"""Figures with intervals: of one side, and of the paired difference of two.

Every difference is of the same samples on both sides. Shares of right samples get Tango's interval
and McNemar's test; everything else is resampled in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from edgepipe.errors import BrokenOutput, SamplesError
from edgepipe.validation import proportions, since
from edgepipe.validation.evidence import Interval, Score
from edgepipe.validation.metrics.metric import PERCENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.validation.metrics.metric import Metric, Rows

LEVEL = 0.95
RESAMPLES = 2000
AT_ONCE = 1_000_000
"""Weights held at a time: 8 MB stay in a cache, and are flat in the number of samples."""
LEAST_PAIRS = 30
"""Of fewer samples a bootstrap says nothing: they may all be alike by chance."""
WITHOUT_FIGURE = 0.1
"""Of the resamples, how many may have no figure: an AUC without a positive sample."""


@dataclass(frozen=True)
class Sampling:
    """How sure, by how many resamples, from which seed: the same ones give the same result."""

    level: float = LEVEL
    resamples: int = RESAMPLES
    seed: int = 0


def score(
    metric: Metric,
    output: str,
    candidate: Rows,
    baseline: Rows | None = None,
    sampling: Sampling | None = None,
) -> Score:
    """One metric of one output, on both sides; the rows of both are of the same samples."""
    sampling = sampling or Sampling()
    _check(metric, output, candidate, "the candidate")
    if baseline is not None:
        _check(metric, output, baseline, "the baseline")
        if len(baseline) != len(candidate):
            raise SamplesError(
                f"{metric.name}: {len(candidate)} samples of the candidate and {len(baseline)} of"
                " the baseline are no pairs"
            )
    right = metric.hits(candidate)
    right_there = None if baseline is None else metric.hits(baseline)
    if right is not None and (baseline is None or right_there is not None):
        return _of_shares(metric, output, right, right_there, sampling.level)
    return _of_resamples(metric, output, candidate, baseline, sampling)


def _check(metric: Metric, output: str, rows: Rows, side: str) -> None:
    if not len(rows):
        raise SamplesError(f"{metric.name} of {output!r}: there is no sample")
    broken = int((~np.isfinite(rows)).any(axis=1).sum())
    if broken and not metric.flips:
        raise BrokenOutput(
            f"{metric.name} of {output!r} can't be measured: {side} gives no finite numbers on"
            f" {broken} of {len(rows)} samples"
        )


def _of_shares(
    metric: Metric,
    output: str,
    right: NDArray[np.bool_],
    right_there: NDArray[np.bool_] | None,
    level: float,
) -> Score:
    count = len(right)
    own = _share(right, level)
    if right_there is None:
        return Score(
            metric.name, output, metric.unit, metric.higher_is_better, count, own,
            test="Wilson's interval", kept=since.keep(right),
        )  # fmt: skip
    gained = int((right & ~right_there).sum())
    lost = int((~right & right_there).sum())
    low, high = proportions.tango(gained, lost, count, level)
    apart = Interval(100 * (gained - lost) / count, 100 * low, 100 * high, level)
    return Score(
        metric.name, output, metric.unit, metric.higher_is_better, count, own,
        _share(right_there, level), apart, proportions.mcnemar_mid(gained, lost),
        f"McNemar, mid-p: {gained} gained, {lost} lost; Tango's interval",
        differing=gained + lost, kept=since.keep(right),
    )  # fmt: skip


def _share(right: NDArray[np.bool_], level: float) -> Interval:
    hits, count = int(right.sum()), len(right)
    low, high = proportions.wilson(hits, count, level)
    return Interval(100 * hits / count, 100 * low, 100 * high, level)


def _of_resamples(
    metric: Metric, output: str, candidate: Rows, baseline: Rows | None, sampling: Sampling
) -> Score:
    seen = metric.figure(candidate)
    there = None if baseline is None else metric.figure(baseline)
    if math.isnan(seen) or (there is not None and math.isnan(there)):
        raise SamplesError(
            f"{metric.name} of {output!r} has no value on these {len(candidate)} samples",
            hint="they are all of one class, or all the same number: give samples that differ.",
        )
    drawn = _drawn(metric, candidate, baseline, sampling)
    count = len(candidate)
    found = Score(
        metric.name, output, metric.unit, metric.higher_is_better, count,
        _interval(metric, drawn[0], seen, count, sampling.level),
        test=f"bootstrap, {sampling.resamples} resamples",
    )  # fmt: skip
    if baseline is None or there is None:
        return found
    apart = _interval(metric, drawn[0] - drawn[1], seen - there, count, sampling.level, True)
    if metric.flips:
        apart = _as_wide(apart, count)
    return Score(
        metric.name, output, metric.unit, metric.higher_is_better, count, found.candidate,
        _interval(metric, drawn[1], there, count, sampling.level), apart,
        _p_value(drawn[0] - drawn[1]), f"paired bootstrap, {sampling.resamples} resamples",
        differing=int((candidate != baseline).any(axis=1).sum()),
    )  # fmt: skip


def _drawn(
    metric: Metric, candidate: Rows, baseline: Rows | None, sampling: Sampling
) -> NDArray[np.float64]:
    """The figures of all resamples, a line a side; both sides of one are of the same samples."""
    sides = [candidate] if baseline is None else [candidate, baseline]
    together = np.concatenate(sides, axis=1)
    alike, counts = np.unique(together, axis=0, return_counts=True)
    width = candidate.shape[1]
    parts = [alike[:, :width], alike[:, width:]][: len(sides)]
    figures: list[list[NDArray[np.float64]]] = [[] for _ in sides]
    for weights in _weights(counts, sampling):
        for side, rows in enumerate(parts):
            figures[side].append(metric.weighted(rows, weights))
    return np.stack([np.concatenate(each) for each in figures])


def _weights(counts: NDArray[np.intp], sampling: Sampling) -> Iterator[NDArray[np.float64]]:
    """How often each resample holds each row, some resamples at a time.

    Rows that are alike are drawn together: ten thousand answers of a classifier are a few hundred
    different ones, and a multinomial draw of those is the same as one of all.
    """
    random = np.random.default_rng(sampling.seed)
    total, different = int(counts.sum()), len(counts)
    each = max(1, AT_ONCE // max(total if different > total // 4 else different, 1))
    for start in range(0, sampling.resamples, each):
        number = min(each, sampling.resamples - start)
        if different <= total // 4:
            yield random.multinomial(total, counts / total, size=number).astype(np.float64)
            continue
        owner = np.repeat(np.arange(different), counts)
        drawn = owner[random.integers(0, total, (number, total), np.int32)]
        drawn += different * np.arange(number)[:, None]
        flat = np.bincount(drawn.reshape(-1), minlength=number * different)
        yield flat.reshape(number, different).astype(np.float64)


def _interval(
    metric: Metric,
    drawn: NDArray[np.float64],
    value: float,
    count: int,
    level: float,
    apart: bool = False,
) -> Interval:
    """The percentile interval, widened for few samples.

    A bootstrap of n samples has a spread that is too small by (n - 1) / n, and knows nothing of
    Student's t; so it takes percentiles further out (Hesterberg, The American Statistician 69,
    2015). BCa would need a jackknife, ten thousand figures more, for a bias that a paired
    difference hardly has.
    """
    known = drawn[~np.isnan(drawn)]
    if len(known) < (1 - WITHOUT_FIGURE) * len(drawn) or count < 2:
        raise SamplesError(
            f"{metric.name} has no interval on {count} samples: in too many resamples it has no"
            " value",
            hint="give more samples, and some of each class.",
        )
    further = NormalDist().cdf(math.sqrt(count / (count - 1)) * student((1 - level) / 2, count - 1))
    low, middle, high = np.quantile(known, [further, 0.5, 1 - further])
    # Resamples lack classes that the samples have, so a mean over many classes drifts in them.
    ends = [value + float(end - middle) for end in (low, high)]
    least = 0.0 if metric.unit == PERCENT else -math.inf
    most = math.inf if metric.best is None else metric.best
    if apart:
        least, most = -(most - least), most - least
    elif metric.unit == PERCENT and value == metric.best:
        ends[0] = min(ends[0], 100 * proportions.wilson(count, count, level)[0])
    return Interval(value, min(value, max(least, ends[0])), max(value, min(most, ends[1])), level)


def _as_wide(interval: Interval, count: int) -> Interval:
    """At least as wide as that of as many samples of which none differs.

    A resample of 40 answers that are all alike is alike again, whatever the next 40 would be.
    """
    low, high = proportions.tango(0, 0, count, interval.level)
    return Interval(
        interval.value,
        min(interval.low, interval.value + 100 * low),
        max(interval.high, interval.value + 100 * high),
        interval.level,
    )


def _p_value(differences: NDArray[np.float64]) -> float:
    """How much of the bootstrap lies beyond no difference, on both sides; never quite 0."""
    known = differences[~np.isnan(differences)]
    beyond = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (len(known) + 1))


def student(share: float, degrees: int) -> float:
    """A quantile of Student's t, by the series of Cornish and Fisher (Abramowitz, 26.7.5)."""
    z = NormalDist().inv_cdf(share)
    terms: tuple[Callable[[float], float], ...] = (
        lambda x: (x**3 + x) / 4,
        lambda x: (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        lambda x: (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
    )
    return z + math.fsum(term(z) / degrees**power for power, term in enumerate(terms, 1))
