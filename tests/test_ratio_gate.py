"""The ratio of latencies and its gate, on timings made with the noise of a shared machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgepipe.validation import ratio_gate
from edgepipe.validation.evidence import Gate, Interval, Verdict


def pairs_of(random: np.random.Generator, ratio: float, count: int) -> list[float]:
    """Log ratios of blocks on a machine that drifts, wanders, and bursts to three times as slow."""
    state, found = 0.0, []
    for number in range(count):
        places = []
        for _ in range(2):
            state = 0.9 * state + 0.08 * random.standard_normal()
            burst = random.random() * math.log(3) if random.random() < 0.1 else 0.0
            places.append(state + burst + 0.001 * number)
        if random.random() < 0.5:
            places.reverse()
        found.append(math.log(ratio) + places[0] - places[1])
    return found


def sequential(random: np.random.Generator, ratio: float, limit: float, most: int) -> Verdict:
    """As the measuring goes: looks after 10, 20, 40 ... pairs, until one decides."""
    pairs = pairs_of(random, ratio, most)
    for count in range(1, most + 1):
        if ratio_gate.is_look(count):
            verdict = ratio_gate.judge(ratio_gate.ratio_interval(pairs[:count]), limit)
            if verdict is not Verdict.UNDECIDED:
                return verdict
    return Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("ratio", "expected"), [(1.0, Verdict.PASSED), (1.3, Verdict.FAILED), (0.5, Verdict.PASSED)]
)
def test_ten_percent_gate_tells_equal_from_a_third_slower(ratio: float, expected: Verdict) -> None:
    random = np.random.default_rng(1)
    verdicts = [sequential(random, ratio, 1.1, 320) for _ in range(50)]
    assert verdicts == [expected] * 50


def test_a_ratio_at_its_limit_is_hardly_ever_called() -> None:
    random = np.random.default_rng(2)
    verdicts = [sequential(random, 1.1, 1.1, 160) for _ in range(200)]
    # The intervals of all looks together miss the truth in 5 % of runs at most.
    assert sum(verdict is not Verdict.UNDECIDED for verdict in verdicts) <= 10


def test_interval_of_one_look_holds_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        found = ratio_gate.ratio_interval(pairs_of(random, 1.25, 40), looks=1)
        assert found is not None
        held += found.low <= 1.25 <= found.high
    assert held >= 370  # 380 expected, and 4.4 of deviation


def test_noise_widens_the_interval_and_does_not_move_it() -> None:
    random = np.random.default_rng(4)
    calm = ratio_gate.ratio_interval([0.01 * one for one in random.standard_normal(80)])
    noisy = ratio_gate.ratio_interval([0.5 * one for one in random.standard_normal(80)])
    assert calm is not None and noisy is not None
    assert calm.high - calm.low < 0.02
    assert noisy.high - noisy.low > 0.2
    assert noisy.low < 1 < noisy.high


def test_a_few_stalls_of_a_second_do_not_matter() -> None:
    pairs = [0.02 * (-1) ** number for number in range(40)]
    stalled = [*pairs[:-4], 5.0, 6.0, 7.0, 8.0]
    found = ratio_gate.ratio_interval(stalled)
    assert found is not None
    assert found.high < 1.05


def test_too_few_pairs_give_no_interval_and_no_verdict() -> None:
    assert ratio_gate.ratio_interval([0.5] * 8) is None
    assert ratio_gate.ratio_interval([]) is None
    gate = ratio_gate.ratio_gate(None, 1.1, spent=3)
    assert gate.verdict is Verdict.UNDECIDED
    assert "--latency-budget" in gate.words


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.9, 1.1, Verdict.PASSED),  # at most the limit
        (0.9, 1.2, Verdict.UNDECIDED),
        (1.1, 1.2, Verdict.UNDECIDED),
        (1.11, 1.5, Verdict.FAILED),
    ],
)
def test_verdict_is_of_the_whole_interval(low: float, high: float, verdict: Verdict) -> None:
    gate = ratio_gate.ratio_gate(Interval(math.sqrt(low * high), low, high), 1.1, spent=10)
    assert gate.verdict is verdict
    assert gate.words.startswith("it takes")


def test_undecided_says_how_much_longer() -> None:
    near = Interval(1.0, 0.8, 1.25)
    gate = ratio_gate.ratio_gate(near, 1.1, spent=10)
    # Half as wide as now takes four times as long: 0.223 to 0.095, squared, and a fifth.
    assert ratio_gate.more_seconds(near, 1.1, 10) == pytest.approx(55.8, abs=1)
    assert "about 56 s more would tell (--latency-budget 66)" in gate.words
    at_it = ratio_gate.ratio_gate(Interval(1.1, 1.05, 1.15), 1.1, spent=10)
    assert "too near to the limit" in at_it.words


def test_small_counts_match_the_table_of_the_signed_rank_test() -> None:
    # Critical values of W at 5 % on two sides, as in every table: 0 for 6, 8 for 10, 52 for 20.
    assert [ratio_gate._critical(count, 0.05) for count in (5, 6, 8, 10, 20)] == [-1, 0, 3, 8, 52]


def test_counted_and_approximated_ranks_meet() -> None:
    exact, beyond = (ratio_gate._critical(count, 0.005) for count in (60, 61))
    assert 0 < beyond - exact < 30


def gate_of(share: float, limit: float, times: list[float]) -> Gate:
    return ratio_gate.quantile_gate("max-latency", times, share, limit)


def test_quantile_of_calm_times_is_judged_and_of_few_is_not() -> None:
    random = np.random.default_rng(5)
    times = [0.010 + 0.0001 * one for one in random.standard_normal(400)]
    assert gate_of(0.5, 12, times).verdict is Verdict.PASSED
    assert gate_of(0.5, 9, times).verdict is Verdict.FAILED
    assert gate_of(0.5, 10, times).verdict is Verdict.UNDECIDED
    assert gate_of(0.5, 9, times[:10]).verdict is Verdict.UNDECIDED


def test_a_slow_stretch_widens_the_interval_of_a_quantile() -> None:
    calm = [0.010 + 0.00001 * (number % 7) for number in range(200)]
    # The same figures, once in one stretch and once spread.
    stretch = calm[:120] + [one * 2 for one in calm[120:]]
    spread = [one for pair in zip(stretch[:100], stretch[:99:-1], strict=True) for one in pair]
    found = ratio_gate.quantile_interval(stretch, 0.6)
    even = ratio_gate.quantile_interval(spread, 0.6)
    assert found is not None and even is not None
    assert found.high - found.low >= even.high - even.low
    assert found.high > 0.019
