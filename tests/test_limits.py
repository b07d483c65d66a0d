"""Limits as they are written, and the verdicts that come of what was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgepipe.errors import OptionError, UnknownName
from edgepipe.validation import limits, since
from edgepipe.validation.evidence import (
    Energy,
    Gate,
    Interval,
    Latency,
    Memory,
    Placement,
    Score,
    Timing,
    Validation,
    Verdict,
)
from edgepipe.validation.gating import judge
from edgepipe.validation.metrics.by_name import named
from edgepipe.validation.statistics import score

PASSED, FAILED, UNDECIDED = Verdict.PASSED, Verdict.FAILED, Verdict.UNDECIDED


def seen(*scores: Score, **others: Any) -> Validation:
    said = {
        "candidate": {"sha256": "a", "size": 200_000},
        "baseline": {"sha256": "f"},
        "data": {"digest": "d", "samples": 1000},
        **others,
    }
    return Validation(scores=scores, **said)


def of(metric: str, value: float, half: float, drop: float | None = None, **others: Any) -> Score:
    """A score with intervals as wide on both sides."""
    known = named(metric)
    difference = None if drop is None else Interval(-drop, -drop - half, -drop + half)
    if drop is not None and not known.higher_is_better:
        difference = Interval(drop, drop - half, drop + half)
    return Score(
        metric, "y", known.unit, known.higher_is_better, 1000,
        Interval(value, value - half, value + half),
        None if drop is None else Interval(value + drop, value + drop - half, value + drop + half),
        difference, **others,
    )  # fmt: skip


def gate(name: str, value: Any, found: Validation, accepted: Any = None) -> Gate:
    (one,) = judge(limits.read({name: value}), found, accepted)
    return one


# Reading


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max-drop", 0.5, 0.5),
        ("max-drop", "0.5 points", 0.5),
        ("max-drop", "0.5%", 0.5),
        ("min-top1", 0.9, 90),
        ("min-top1", 90, 90),
        ("min-top1", "90 %", 90),
        ("min-agreement", 1, 100),
        ("min-top5", "95%", 95),
        ("min-sqnr", "20 dB", 20),
        ("max-mae", 0.02, 0.02),
        ("max-latency", "1.5 s", 1500),
        ("max-latency", 12, 12),
        ("max-p99", "300us", 0.3),
        ("max-size", "512 KiB", 512 * 1024),
        ("max-size", "1.5M", 1.5 * 1024**2),
        ("max-streamed-bytes", 0, 0),
        ("max-energy", "5 mJ", 0.005),
        ("min-mapped", "95%", 0.95),
        ("max-latency-ratio", "110%", 1.1),
        ("max-latency-growth", "10%", 0.1),
        ("max-size-growth", "-5%", -0.05),
    ],
)
def test_value_is_read_in_its_unit(name: str, text: Any, value: float) -> None:
    (limit,) = limits.read({name: text})
    assert limit.value == pytest.approx(value)
    assert limit.text == str(text)


def test_flags_are_read_as_a_table_is() -> None:
    assert limits.read_pairs(["max-drop=0.5", " min-top1 = 90%"]) == limits.read(
        {"max-drop": "0.5", "min-top1": "90%"}
    )
    with pytest.raises(OptionError, match="NAME=VALUE, received 'max-drop'"):
        limits.read_pairs(["max-drop"])
    with pytest.raises(OptionError, match=r"given twice: 1 and 2"):
        limits.read_pairs(["max-drop=1", "max-drop=2"])


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("max-dorp", "max-drop"),
        ("min-top-one", "min-top1"),
        ("min-acuracy", "min-binary-accuracy"),
        ("max-latncy", "max-latency"),
        ("max-drop-topp1", "max-drop-top1"),
    ],
)
def test_unknown_limit_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownName) as caught:
        limits.read({name: 1})
    assert near in caught.value.hint.partition("?")[0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("max-drop", True, "received True"),
        ("max-drop", "much", "received 'much'"),
        ("max-size", "5 ms", "received '5 ms'"),
        ("max-latency", "-1", "above 0"),
        ("max-size", -1, "from 0 on"),
        ("min-top1", 900, "from 0 to 100"),
        ("min-sqnr", "20%", "not measured in percent"),
        ("max-top1", 50, "the better the higher"),
        ("min-mae", 1, "the better the lower"),
    ],
)
def test_value_that_means_nothing_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        limits.read({name: value})
    assert caught.value.exit_code == 2


def test_limits_name_the_metrics_that_they_need() -> None:
    read = limits.read({"min-f1": 80, "max-drop-top5": 1, "max-size": 1, "max-drop": 1})
    assert limits.metrics(read) == ["f1", "top5"]


@pytest.mark.parametrize("name", limits.names())
def test_every_name_can_be_read(name: str) -> None:
    assert limits.read({name: 1})[0].name == name


# Accuracy


@pytest.mark.parametrize(
    ("drop", "half", "verdict"),
    [(0.1, 0.3, PASSED), (0.2, 0.3, PASSED), (0.3, 0.3, UNDECIDED), (0.7, 0.3, UNDECIDED),
     (0.9, 0.3, FAILED), (-1.0, 0.3, PASSED)],
)  # fmt: skip
@pytest.mark.parametrize("metric", ["top1", "mae"])
def test_drop_is_judged_by_its_whole_interval(
    metric: str, drop: float, half: float, verdict: Verdict
) -> None:
    found = gate("max-drop", 0.5, seen(of(metric, 90, half, drop)))
    assert found.verdict is verdict
    assert (found.more_samples is not None) == (verdict is UNDECIDED)


def test_sentence_stands_alone() -> None:
    undecided = gate("max-drop", 0.5, seen(of("top1", 90, 0.3, 0.3)))
    assert undecided.words == (
        "max-drop: top1 drops by 0.3 points (0 to 0.6), at most 0.5 points is"
        " allowed: not enough samples to tell: 3,600 more are needed"
    )
    assert undecided.more_samples == 3600
    low = gate("min-agreement", "99%", seen(of("agreement", 97, 0.5)))
    assert low.verdict is FAILED
    assert low.words == (
        "min-agreement: agreement is 97 % (96.5 to 97.5), at least 99 % is asked for"
    )


def test_level_is_judged_by_the_candidate_alone() -> None:
    assert gate("min-top1", 89, seen(of("top1", 90, 0.3, 5))).verdict is PASSED
    assert gate("min-top1", 90, seen(of("top1", 90, 0.3, 5))).verdict is UNDECIDED
    assert gate("max-mae", 0.5, seen(of("mae", 0.4, 0.05))).verdict is PASSED
    assert gate("max-mae", 0.3, seen(of("mae", 0.4, 0.05))).verdict is FAILED


def test_limit_that_no_sample_contradicts_holds() -> None:
    same = answers(range(3), 50)
    found = seen(score(named("top1"), "y", same, same))
    none = gate("max-drop", 0, found)
    assert none.verdict is PASSED and "none of 50 samples" in none.words
    assert gate("max-drop", 0.5, found).verdict is UNDECIDED
    perfect = seen(of("agreement", 100, 0))
    assert gate("min-agreement", 1, perfect).verdict is PASSED
    assert gate("min-agreement", 1, seen(of("agreement", 99, 0.5))).verdict is FAILED


def test_samples_that_never_differ_need_fewer_more() -> None:
    same = answers(range(3), 40)
    found = gate("max-drop", 0.5, seen(score(named("top1"), "y", same, same)))
    # 3.84 / (n + 3.84) is below half a point from 765 samples on.
    assert found.more_samples is not None and 650 < found.more_samples < 800


def test_bootstrap_of_few_samples_is_undecided() -> None:
    rows = np.stack([np.full(12, 1.0), np.ones(12)], axis=1)
    found = gate("max-drop", 5, seen(score(named("mae"), "y", rows, rows * [1.01, 1])))
    assert (found.verdict, found.more_samples) == (UNDECIDED, 18)


def test_first_metric_that_is_compared_is_the_one_that_may_not_drop() -> None:
    found = seen(of("sqnr", 30, 1), of("top1", 90, 0.1, 2), of("f1", 90, 0.1, 0))
    assert "top1" in gate("max-drop", 1, found).words
    assert gate("max-drop", 1, found).verdict is FAILED
    assert gate("max-drop-f1", 1, found).verdict is PASSED


def test_each_output_has_its_gate() -> None:
    other = replace(of("top1", 90, 0.1, 2), output="z")
    gates = judge(limits.read({"max-drop": 1}), seen(of("top1", 90, 0.1, 0), other))
    assert [one.verdict for one in gates] == [PASSED, FAILED]
    assert "top1 of 'z'" in gates[1].words


def test_share_of_the_baselines_error() -> None:
    found = seen(of("mae", 1.05, 0.01, 0.05))
    assert gate("max-drop-mae", "10%", found).verdict is PASSED
    assert gate("max-drop-mae", "2%", found).verdict is FAILED
    assert gate("max-drop-mae", 0.02, found).verdict is FAILED


def test_what_was_not_measured_has_kept_no_limit() -> None:
    alone = seen(of("top1", 90, 1), baseline=None, absent={"baseline": "name it with --against"})
    found = gate("max-drop", 1, alone)
    assert (found.verdict, found.seen) == (UNDECIDED, "-")
    assert "--against" in found.words
    unlabelled = seen(of("sqnr", 30, 1))
    assert "nothing was measured against what is true" in gate("max-drop", 1, unlabelled).words
    assert "f1 was not measured against" in gate("max-drop-f1", 1, unlabelled).words
    assert "f1 was not measured" in gate("min-f1", 1, alone).words
    energy = gate("max-energy", "1 J", seen(absent={"energy": "no counter can be read here"}))
    assert energy.verdict is UNDECIDED and "no counter" in energy.words


# Costs


def timing(middle: float, seed: int = 0) -> Timing:
    times = middle * np.random.default_rng(seed).normal(1, 0.02, 400)
    p50, p90, p95, p99 = (float(one) for one in np.percentile(times, (50, 90, 95, 99)))
    return Timing(p50, p90, p95, p99, float(times.mean()), 400, times=tuple(times.tolist()))


def measured(**others: Any) -> Validation:
    latency = Latency(timing(0.002), timing(0.004, 1), Interval(0.5, 0.48, 0.52), {"cpu": "x"})
    return seen(
        of("top1", 90, 0.3, 0.1),
        **{
            "latency": latency,
            "memory": Memory(4 << 20, 300_000),
            "energy": Energy("RAPL", Interval(0.02, 0.018, 0.022)),
            "placement": Placement("TPU", 60, 64),
            **others,
        },
    )


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("max-latency-ratio", 0.6, PASSED),
        ("max-latency-ratio", 0.5, UNDECIDED),
        ("max-latency-ratio", 0.4, FAILED),
        ("max-latency", "2.1 ms", PASSED),
        ("max-latency", "1.9 ms", FAILED),
        ("max-p99", "3 ms", PASSED),
        ("max-p99", "2 ms", FAILED),
        ("max-size", "200K", PASSED),
        ("max-size", "100K", FAILED),
        ("max-memory", "4 MiB", PASSED),
        ("max-memory", "3 MiB", FAILED),
        ("max-arena", 299_999, FAILED),
        ("min-mapped", "90%", PASSED),
        ("min-mapped", 1, FAILED),
        ("max-energy", "25 mJ", PASSED),
        ("max-energy", "20 mJ", UNDECIDED),
        ("max-energy", "10 mJ", FAILED),
    ],
)
def test_costs_are_judged(name: str, value: Any, verdict: Verdict) -> None:
    found = gate(name, value, measured())
    assert found.verdict is verdict, found.words
    assert found.words.startswith(f"{name}: ")


def test_device_that_was_asked_for_in_vain_fails_without_a_limit() -> None:
    fallen = measured(placement=Placement("GPU", 0, 9, fell_back="no operator ran on GPU"))
    (one,) = judge((), fallen)
    assert (one.name, one.verdict) == ("device", FAILED)
    assert judge((), measured()) == ()


# Since the accepted run


def answers(wrong: range, count: int = 500) -> Any:
    said = np.zeros(count)
    said[wrong.start : wrong.stop] = 1
    return np.stack([np.zeros(count), said, np.full(count, 10)], axis=1)


def run(wrong: range, sha256: str, **others: Any) -> Validation:
    made = score(named("top1"), "y", answers(wrong), answers(range(40)))
    return seen(made, candidate={"sha256": sha256, "size": 1000}, **others)


def test_shares_are_paired_with_those_of_the_accepted_run() -> None:
    then = run(range(50), "old").to_json()
    same = gate("max-drop-since", 1, run(range(50), "new"), then)
    assert same.verdict is PASSED
    worse = gate("max-drop-since", 2, run(range(70), "new"), then)
    assert worse.verdict is FAILED, worse.words
    assert "drops by 4 points" in worse.words
    # By what either lost against the float model the same drop is known less well.
    for one in then["scores"]:
        one["kept"] = ""
    assert gate("max-drop-since", 2, run(range(70), "new"), then).verdict is UNDECIDED


def test_same_file_has_not_changed() -> None:
    then = run(range(50), "same").to_json()
    assert gate("max-drop-since", 0.01, run(range(50), "same"), then).verdict is PASSED


def test_same_answers_as_before_have_lost_nothing() -> None:
    then = run(range(50), "old").to_json()
    assert gate("max-drop-since", 0, run(range(50), "new"), then).verdict is PASSED
    # As many are right, but others.
    assert gate("max-drop-since", 0, run(range(1, 51), "new"), then).verdict is UNDECIDED


def test_other_samples_are_not_paired() -> None:
    for other in ({"digest": "other"}, {"digest": "d", "truth": "other"}):
        then = run(range(50), "old", data=other).to_json()
        found = gate("max-drop-since", 1, run(range(51), "new"), then)
        assert found.verdict is UNDECIDED
        assert "other samples" in found.words


def test_differences_from_the_same_float_model_are_compared() -> None:
    now, then = of("mae", 1.5, 0.3, 0.5), of("mae", 1.2, 0.3, 0.2)
    difference = replace(now, difference=Interval(0.5, 0.49, 0.51))
    before = seen(replace(then, difference=Interval(0.2, 0.19, 0.21)), candidate={"sha256": "o"})
    found = gate("max-drop-since", 0.25, seen(difference), before.to_json())
    assert found.verdict is FAILED
    assert found.seen == "0.3 (0.2859 to 0.3141)"


def test_growth_since_the_accepted_run() -> None:
    then = measured().to_json()
    assert gate("max-size-growth", "10%", measured(), then).verdict is PASSED
    grown = measured(candidate={"sha256": "n", "size": 230_000})
    assert gate("max-size-growth", "10%", grown, then).verdict is FAILED
    assert gate("max-latency-growth", "10%", measured(), then).verdict is PASSED
    slow = replace(measured().latency, ratio=Interval(0.7, 0.68, 0.72))  # type: ignore[type-var]
    assert gate("max-latency-growth", "10%", measured(latency=slow), then).verdict is FAILED
    alone = replace(measured().latency, ratio=None)  # type: ignore[type-var]
    assert gate("max-latency-growth", "10%", measured(latency=alone), then).verdict is PASSED
    then["latency"]["machine"] = {"cpu": "y"}
    other = gate("max-latency-growth", "10%", measured(latency=alone), then)
    assert other.verdict is UNDECIDED and "another machine" in other.words


def test_without_an_accepted_run_nothing_is_known_of_it() -> None:
    for name in ("max-drop-since", "max-latency-growth", "max-size-growth"):
        found = gate(name, 1, measured())
        assert found.verdict is UNDECIDED and "no earlier run" in found.words


def test_bits_come_back_as_they_were() -> None:
    right = np.random.default_rng(0).random(1003) < 0.9
    back = since.kept(since.keep(right), 1003)
    assert back is not None and np.array_equal(back, right)
    assert since.kept(since.keep(right), 900) is None
    assert since.kept("no bits", 3) is None
    assert len(since.keep(np.random.default_rng(1).random(10_000) < 0.95)) < 1700
