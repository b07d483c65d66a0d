"""Intervals and tests against published figures, and against simulations of what they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgepipe.errors import BrokenOutput, SamplesError
from edgepipe.validation import proportions
from edgepipe.validation.metrics.by_name import named
from edgepipe.validation.statistics import Sampling, score, student


def answers(right: Any, classes: int = 10) -> Any:
    """Rows of top-1 or F1, of samples of class 0 that are right or said to be class 1."""
    hits = np.asarray(right, bool)
    return np.stack(
        [np.zeros(len(hits)), np.where(hits, 0.0, 1.0), np.full(len(hits), classes)], axis=1
    )


def errors(values: Any) -> Any:
    """Rows of MAE."""
    return np.stack([np.abs(values), np.ones(len(values))], axis=1)


def test_wilson_gives_the_published_intervals() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), 857: method 3.
    for hits, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ):
        assert proportions.wilson(hits, count) == pytest.approx((low, high), abs=5e-5)


def test_tango_gives_the_published_intervals() -> None:
    # Fagerland, Lydersen, Laake, Statistics in Medicine 33 (2014), table III: 1 and 7 of 21.
    assert proportions.tango(7, 1, 21) == pytest.approx((0.026, 0.517), abs=2e-3)
    low, high = proportions.tango(0, 0, 30)
    z = 1.959964
    assert (low, high) == pytest.approx((-z * z / (30 + z * z), z * z / (30 + z * z)), abs=1e-6)


@pytest.mark.parametrize("pair", [(3, 9), (0, 4), (12, 40), (5, 5)])
def test_tango_is_mcnemars_test_turned_round(pair: tuple[int, int]) -> None:
    gained, lost = pair
    statistic = (gained - lost) ** 2 / (gained + lost)
    level = math.erf(math.sqrt(statistic / 2))
    if level == 0:
        low, high = proportions.tango(gained, lost, 200)
        assert low < 0 < high
        return
    _, high = proportions.tango(gained, lost, 200, level)
    assert high == pytest.approx(0, abs=1e-9)


def test_tango_is_the_same_in_a_mirror() -> None:
    low, high = proportions.tango(9, 2, 50)
    assert proportions.tango(2, 9, 50) == pytest.approx((-high, -low))


def test_mcnemar_gives_the_published_p_values() -> None:
    # Fagerland, Lydersen, Laake, BMC Medical Research Methodology 13:91 (2013), table 4.
    assert proportions.mcnemar(1, 7) == pytest.approx(0.070, abs=5e-4)
    assert proportions.mcnemar_mid(1, 7) == pytest.approx(0.039, abs=5e-4)
    assert proportions.mcnemar(0, 0) == proportions.mcnemar_mid(0, 0) == 1
    assert proportions.mcnemar(4, 4) == 1
    assert 0 < proportions.mcnemar(20_000, 19_000) < 1e-5


def test_students_t_gives_its_tables() -> None:
    for degrees, value in ((4, 2.776), (9, 2.262), (29, 2.045), (1000, 1.962)):
        assert -student(0.025, degrees) == pytest.approx(value, abs=0.008)


def test_score_of_shares_is_paired() -> None:
    candidate, baseline = np.ones(200, bool), np.ones(200, bool)
    candidate[:9], baseline[5:8] = False, False
    found = score(named("top1"), "scores", answers(candidate), answers(baseline))
    assert found.candidate.value == pytest.approx(95.5)
    assert found.baseline is not None and found.baseline.value == pytest.approx(98.5)
    assert found.difference is not None
    assert found.difference.value == pytest.approx(-3)
    low, high = proportions.tango(0, 6, 200)
    assert (found.difference.low, found.difference.high) == pytest.approx((100 * low, 100 * high))
    assert found.p_value == pytest.approx(2 / 64 - 1 / 64)
    assert found.test.startswith("McNemar, mid-p: 0 gained, 6 lost")


def test_score_without_a_baseline_has_no_difference() -> None:
    found = score(named("top1"), "scores", answers([True] * 9 + [False]))
    assert (found.baseline, found.difference, found.p_value) == (None, None, None)
    assert found.candidate.low == pytest.approx(59.585, abs=1e-3)


def test_bootstrap_is_paired_and_repeats() -> None:
    random = np.random.default_rng(3)
    baseline = random.gamma(1.0, 2.0, 500)
    candidate = baseline + random.normal(0.1, 0.05, 500)
    found = score(named("mae"), "y", errors(candidate), errors(baseline))
    assert found == score(named("mae"), "y", errors(candidate), errors(baseline))
    other = score(named("mae"), "y", errors(candidate), errors(baseline), Sampling(seed=1))
    assert found.difference != other.difference
    assert found.difference is not None
    # Student's interval of the differences; unpaired it would be ±0.25.
    half = 1.96 * np.std(np.abs(candidate) - baseline, ddof=1) / math.sqrt(500)
    assert found.difference.high - found.difference.low == pytest.approx(2 * half, rel=0.08)
    assert found.p_value is not None and found.p_value < 0.002


def test_few_samples_make_a_bootstrap_wider_as_students_t_does() -> None:
    random = np.random.default_rng(0)
    values = random.normal(10, 1, 8)
    found = score(named("mae"), "y", errors(values), None, Sampling(resamples=20_000))
    half = 2.365 * np.std(values, ddof=1) / math.sqrt(8)
    assert found.candidate.high - found.candidate.low == pytest.approx(2 * half, rel=0.15)


def test_answers_that_never_differ_leave_room_for_those_not_seen() -> None:
    same = answers([True] * 35 + [False] * 5)
    found = score(named("f1"), "scores", same, same)
    assert found.difference is not None and found.difference.value == 0
    assert found.difference.low == pytest.approx(-100 * 3.8415 / 43.8415, abs=1e-3)
    assert found.difference.high == pytest.approx(100 * 3.8415 / 43.8415, abs=1e-3)


def test_mean_over_many_classes_lies_inside_its_interval() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 500, 1000)
    said = np.where(random.random(1000) < 0.6, label, random.integers(0, 500, 1000))
    found = score(named("f1"), "scores", np.stack([label, said, np.full(1000, 500)], 1) * 1.0)
    assert found.candidate.low + 1 < found.candidate.value < found.candidate.high - 1


def test_intervals_end_where_the_metric_does() -> None:
    random = np.random.default_rng(0)
    yes = random.integers(0, 2, 60)
    rows: Any = np.stack([yes, yes + random.normal(0, 0.45, 60)], axis=1)
    found = score(named("auc"), "scores", rows)
    assert 85 < found.candidate.low < found.candidate.value < found.candidate.high <= 100


def test_perfect_figure_of_few_samples_is_not_certain() -> None:
    yes = np.arange(60) % 2
    rows: Any = np.stack([yes, yes], axis=1)
    found = score(named("auc"), "scores", rows)
    assert (found.candidate.value, found.candidate.high) == (100, 100)
    assert found.candidate.low == pytest.approx(93.98, abs=0.01)


def test_metric_without_a_value_says_why() -> None:
    with pytest.raises(SamplesError, match="auc of 's' has no value") as caught:
        score(named("auc"), "s", np.stack([np.ones(40), np.arange(40.0)], axis=1))
    assert "all of one class" in caught.value.hint
    with pytest.raises(SamplesError, match="there is no sample"):
        score(named("mae"), "y", np.zeros((0, 2)))
    with pytest.raises(BrokenOutput, match="no finite numbers on 1 of 3"):
        score(named("mae"), "y", errors(np.array([1.0, math.nan, 2.0])))


def test_sides_of_unlike_length_are_no_pairs() -> None:
    with pytest.raises(SamplesError, match="no pairs"):
        score(named("mae"), "y", errors(np.ones(40)), errors(np.ones(39)))
