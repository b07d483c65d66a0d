"""Judges limits on what was measured: passed, failed, or not enough samples to tell.

A limit has passed where the whole 95 % interval is on the good side of it, has failed where the
whole interval is on the bad side, and is undecided where the interval holds the limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgepipe.validation import cost_gates, since
from edgepipe.validation.cost_gates import absent
from edgepipe.validation.evidence import Gate, Interval, Score, Validation, Verdict
from edgepipe.validation.limits import COSTS, Limit
from edgepipe.validation.metrics.metric import PERCENT
from edgepipe.validation.placement import device_gate
from edgepipe.validation.statistics import LEAST_PAIRS

POWER = (1.96 + 0.84) / 1.96
"""How much narrower than its distance from the limit an interval must be, so that four times in
five the next one is on one side."""
MOST_TIMES = 100
"""More samples than this many times as many are no advice."""


@dataclass(frozen=True)
class Seen:
    """A figure that must not be above its limit, in words that a sentence can hold."""

    what: str
    unit: str
    value: Interval
    score: Score
    upright: bool = True
    """False where the figure must not be below: both were turned over."""

    def number(self, number: float) -> str:
        return f"{0.0 if number == 0 else number if self.upright else -number:.4g}"

    def words(self, number: float) -> str:
        told = self.number(number)
        unit = "point" if self.unit == "points" and told == "1" else self.unit
        return f"{told} {unit}".rstrip()

    @property
    def ends(self) -> str:
        low, high = sorted((self.value.low, self.value.high), reverse=not self.upright)
        return f"{self.words(self.value.value)} ({self.number(low)} to {self.number(high)})"


def judge(
    limits: Iterable[Limit], found: Validation, accepted: Mapping[str, Any] | None = None
) -> tuple[Gate, ...]:
    """A gate for each limit, and for each output that it is about. `accepted` is the document of
    an earlier run."""
    gates: list[Gate] = []
    for limit in limits:
        gates += _gates(limit, found, accepted)
    fallen = None if found.placement is None else device_gate(found.placement)
    return (*gates, *([fallen] if fallen else ()))


def _gates(limit: Limit, found: Validation, accepted: Mapping[str, Any] | None) -> Sequence[Gate]:
    if limit.about in COSTS:
        return [cost_gates.gate(limit, found, accepted)]
    if limit.about == "max-drop-since" and accepted is None:
        return [absent(limit, "no earlier run was accepted (--since FILE)")]
    scores = _about(limit, found.scores)
    if not scores:
        return [absent(limit, _missing(limit, found))]
    several = len({score.output for score in found.scores}) > 1
    return [_gate(limit, score, found, accepted, several) for score in scores]


def _about(limit: Limit, scores: Sequence[Score]) -> list[Score]:
    """Without a metric's name, the first that is compared, on each output."""
    if limit.about in ("min", "max") or limit.metric:
        fitting = [score for score in scores if score.metric == limit.metric]
        return [one for one in fitting if limit.about != "max-drop" or one.difference is not None]
    known = [score for score in scores if score.difference is not None]
    if limit.about == "max-drop-since":
        known = known or list(scores)
    return [score for score in known if score.metric == known[0].metric]


def _missing(limit: Limit, found: Validation) -> str:
    if limit.about == "max-drop" and found.baseline is None:
        return found.absent.get("baseline") or "there is no float model to compare with"
    if limit.about == "max-drop":
        what = f"{limit.metric} was not" if limit.metric else "nothing was"
        return (
            f"{what} measured against what is true on both sides: give labels (--labels) or another"
            " truth (--truth)"
        )
    return f"{limit.metric} was not measured"


def _gate(
    limit: Limit,
    score: Score,
    found: Validation,
    accepted: Mapping[str, Any] | None,
    several: bool,
) -> Gate:
    what = f"{score.metric} of {score.output!r}" if several else score.metric
    if limit.about == "max-drop-since":
        change = since.change(score, found, accepted or {})
        if change.interval is None:
            return absent(limit, change.words)
        then = replace(score, differing=change.differing)
        return _drop(limit, then, change.interval, f"{what} {change.words}")
    if limit.about == "max-drop":
        assert score.difference is not None
        return _drop(limit, score, score.difference, what)
    turned = limit.about == "min"
    value = flipped(score.candidate) if turned else score.candidate
    seen = Seen(f"{what} is", score.unit, value, score, not turned)
    return decide(limit, seen, -limit.value if turned else limit.value)


def _drop(limit: Limit, score: Score, change: Interval, what: str) -> Gate:
    lost = flipped(change) if score.higher_is_better else change
    unit = "points" if score.unit == PERCENT else score.unit
    most = limit.value
    if limit.relative and score.unit != PERCENT and score.baseline is not None:
        most = limit.value / 100 * abs(score.baseline.value)
    verb = "drops by" if score.higher_is_better else "rises by"
    return decide(limit, Seen(f"{what} {verb}", unit, lost, score), most)


def flipped(interval: Interval) -> Interval:
    return Interval(-interval.value, -interval.high, -interval.low, interval.level)


def decide(limit: Limit, seen: Seen, most: float) -> Gate:
    """`most` is the limit in the figure's unit, turned over where that is."""
    score, value = seen.score, seen.value
    told = f"{limit.name}: {seen.what} {seen.ends}"
    asked = f"at most {seen.words(most)} is allowed"
    if not seen.upright:
        asked = f"at least {seen.words(most)} is asked for"

    def gate(verdict: Verdict, words: str, more: int | None = None) -> Gate:
        return Gate(limit.name, limit.text, seen.ends, verdict, f"{told}, {words}", more)

    if _at_the_end(seen, most):
        return gate(Verdict.PASSED, f"{asked}, and none of {score.samples} samples says"
                    " otherwise")  # fmt: skip
    few = LEAST_PAIRS - score.samples if "bootstrap" in score.test else 0
    if few <= 0 and value.high <= most:
        return gate(Verdict.PASSED, asked)
    if few <= 0 and value.low > most:
        return gate(Verdict.FAILED, asked)
    more = few if few > 0 else more_samples(value, most, score.samples, score.differing == 0)
    tail = (
        "it is too near to the limit to tell"
        if more is None
        else f"not enough samples to tell: {more:,} more are needed"
    )
    return gate(Verdict.UNDECIDED, f"{asked}: {tail}", more)


def _at_the_end(seen: Seen, most: float) -> bool:
    """A limit that no number of samples proves: no loss at all, or nothing but hits.

    It is about the samples that are there, and holds where not one of them says otherwise.
    """
    if seen.upright:
        return most == 0 and seen.score.differing == 0 and seen.value.value == 0
    best = 100.0 if seen.score.unit == PERCENT else math.inf
    return -most == best == -seen.value.value


def more_samples(value: Interval, most: float, count: int, alike: bool) -> int | None:
    """How many more would probably tell; None where that would be more than anyone has.

    An interval narrows with the root of their number; where not one sample differs, with the
    number itself.
    """
    gap = abs(most - value.value)
    half = value.high - value.value if value.value <= most else value.value - value.low
    if gap <= 0 or half <= 0:
        return None
    times = half / gap if alike else (POWER * half / gap) ** 2
    if times > (MOST_TIMES**2 if alike else MOST_TIMES):
        return None
    return _rounded(max(1, math.ceil(count * (times - 1))))


def _rounded(number: int) -> int:
    """Up to two digits: it is an estimate."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step
