"""What a gate promises, over a thousand runs each with new samples from a known truth.

Of runs without a true difference at most 6 % may fail; a true drop of twice the limit fails in at
least 95 %, where there are samples enough. All is drawn from fixed seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgepipe.validation.evidence import Score, Validation, Verdict
from edgepipe.validation.gating import judge
from edgepipe.validation.limits import read
from edgepipe.validation.metrics.by_name import named
from edgepipe.validation.statistics import Sampling, score

RUNS = 1000


def verdicts(limit: float, drawn: Callable[[Any], Score]) -> Counter[Verdict]:
    random = np.random.default_rng(20_26)
    limits = read({"max-drop": limit})
    found: Counter[Verdict] = Counter()
    for _ in range(RUNS):
        seen = Validation({"sha256": "a"}, {"sha256": "b"}, None, (drawn(random),))
        found[judge(limits, seen)[0].verdict] += 1
    return found


def top1(lost: float, gained: float, count: int) -> Callable[[Any], Score]:
    """Nine in ten right in float; these shares of the samples change sides."""

    def drawn(random: Any) -> Score:
        baseline = random.random(count) < 0.9
        moved = random.random(count)
        flips = np.where(baseline, moved < lost / 0.9, moved < gained / 0.1)
        sides = (np.where(right, 0.0, 1.0) for right in (baseline ^ flips, baseline))
        zeros = np.zeros(count)
        candidate, beside = (np.stack([zeros, said, zeros + 10], axis=1) for said in sides)
        return score(named("top1"), "scores", candidate, beside)

    return drawn


def f1(lost: float, gained: float, count: int) -> Callable[[Any], Score]:
    """The same of four classes that are said in each other's place."""

    def drawn(random: Any) -> Score:
        true = random.integers(0, 4, count)
        baseline = random.random(count) < 0.9
        moved = random.random(count)
        flips = np.where(baseline, moved < lost / 0.9, moved < gained / 0.1)
        wrong = (true + random.integers(1, 4, count)) % 4
        sides = (np.where(right, true, wrong) for right in (baseline ^ flips, baseline))
        candidate, beside = (np.stack([true, said, true], 1).astype(float) for said in sides)
        return score(named("f1"), "scores", candidate, beside, Sampling(resamples=200))

    return drawn


def mae(rise: float, count: int) -> Callable[[Any], Score]:
    """Errors with a long tail, and a difference that is skewed, of standard deviation 1."""

    def drawn(random: Any) -> Score:
        baseline = 5 + random.gamma(2.0, 3.0, count)
        candidate = baseline + random.exponential(1.0, count) - 1 + rise
        own, beside = (np.stack([each, np.ones(count)], 1) for each in (candidate, baseline))
        return score(named("mae"), "y", own, beside, Sampling(resamples=300))

    return drawn


@pytest.mark.parametrize(
    ("drawn", "limit"),
    [
        (top1(0.02, 0.02, 1000), 0),
        (top1(0.003, 0.003, 400), 0),
        (top1(0.02, 0.02, 1000), 0.5),
        (f1(0.02, 0.02, 1000), 0),
        (mae(0.0, 60), 0),
        (mae(0.0, 200), 0.1),
    ],
    ids=["top1", "top1, few differ", "top1, half a point", "f1", "mae, few samples", "mae"],
)
def test_hardly_a_run_fails_without_a_true_difference(
    drawn: Callable[[Any], Score], limit: float
) -> None:
    found = verdicts(limit, drawn)
    assert found[Verdict.FAILED] <= 0.06 * RUNS, found


@pytest.mark.parametrize(
    ("drawn", "limit"),
    [(top1(0.03, 0.01, 6000), 1), (f1(0.08, 0.02, 2000), 3), (mae(0.5, 300), 0.25)],
    ids=["top1", "f1", "mae"],
)
def test_drop_of_twice_the_limit_is_caught(drawn: Callable[[Any], Score], limit: float) -> None:
    found = verdicts(limit, drawn)
    assert found[Verdict.FAILED] >= 0.95 * RUNS, found
    assert found[Verdict.PASSED] == 0


@pytest.mark.parametrize(
    ("drawn", "limit"),
    [(top1(0.02, 0.02, 8000), 1), (f1(0.04, 0.04, 2000), 3), (mae(0.0, 300), 0.25)],
    ids=["top1", "f1", "mae"],
)
def test_enough_samples_without_a_difference_pass(
    drawn: Callable[[Any], Score], limit: float
) -> None:
    found = verdicts(limit, drawn)
    assert found[Verdict.PASSED] >= 0.95 * RUNS, found


@pytest.mark.parametrize("drawn", [top1(0.03, 0.02, 1000), mae(0.1, 200)], ids=["top1", "mae"])
def test_true_difference_at_the_limit_is_seldom_taken_for_either(
    drawn: Callable[[Any], Score],
) -> None:
    limit = 1 if drawn(np.random.default_rng(0)).metric == "top1" else 0.1
    found = verdicts(limit, drawn)
    assert found[Verdict.FAILED] <= 0.05 * RUNS, found
    assert found[Verdict.PASSED] <= 0.05 * RUNS, found


def test_as_many_samples_as_were_asked_for_mostly_tell() -> None:
    random = np.random.default_rng(7)
    limits = read({"max-drop": 1})
    asked = told = 0
    for _ in range(200):
        first = top1(0.02, 0.02, 500)(random)
        gate = judge(limits, Validation({}, {}, None, (first,)))[0]
        if gate.more_samples is None or gate.verdict is not Verdict.UNDECIDED:
            continue
        asked += 1
        again = top1(0.02, 0.02, min(500 + gate.more_samples, 20_000))(random)
        told += judge(limits, Validation({}, {}, None, (again,)))[0].verdict is Verdict.PASSED
    assert asked > 100
    assert told >= 0.6 * asked
