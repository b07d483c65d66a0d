"""Latency of real models in live workers; nothing here asserts how long anything takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models

from edgepipe import tensors
from edgepipe.artifact import Artifact, Port, Signature
from edgepipe.errors import OptionError
from edgepipe.samples import SampleSource
from edgepipe.session import Session
from edgepipe.tflite import saving
from edgepipe.validation import latency
from edgepipe.validation.evidence import Interval
from edgepipe.validation.latency import Plan, Side
from edgepipe.validation.subject import Subject

Open = Callable[..., Side]

pytestmark = pytest.mark.toolchain("edge")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "conv.tflite"
    saving.save(tflite_models.conv(), path)
    return path


@pytest.fixture
def side(session: Session, artifact: Callable[..., Artifact], tmp_path: Path) -> Iterator[Open]:
    """A model loaded in a worker of its own."""
    with ExitStack() as stack:

        def start(path: Path, name: str = "candidate", **settings: Any) -> Side:
            subject = Subject.of(artifact(path), **settings)
            feeds = tmp_path / f"{name}.npz"
            tensors.write(feeds, SampleSource().make(subject.artifact.ends())[1:2])
            made = stack.enter_context(Side(session, subject, feeds, name))
            made.start()
            return made

        yield start


def test_both_sides_are_measured_and_compared(side: Open, model: Path) -> None:
    sides = side(model), side(model, "baseline")
    # It ends long before, at the first look that is legible: time enough on any machine.
    found = latency.measure(*sides, Plan(seconds=60, ratio_limit=1000))
    assert found.baseline is not None
    for timing in (found.candidate, found.baseline):
        assert 0 < timing.p50 <= timing.p90 <= timing.p95 <= timing.p99
        assert len(timing.times) <= timing.runs
        assert timing.load and timing.cold
    assert found.ratio is not None
    assert found.ratio.low <= found.ratio.value <= found.ratio.high
    assert found.machine["pairs"] >= 10
    assert found.machine["threads"] == {"candidate": 0, "baseline": 0}


def test_sides_of_one_toolchain_have_processes_of_their_own(side: Open, model: Path) -> None:
    one, other = side(model), side(model, "baseline")
    pids = {each.call("os:getpid") for each in (one, other, one, other)}
    assert len(pids) == 2


def test_one_model_alone_has_no_ratio(side: Open, model: Path) -> None:
    found = latency.measure(side(model), None, Plan(seconds=0.5))
    assert found.baseline is None and found.ratio is None
    assert found.candidate.runs > 0


def test_throughput_has_a_row_for_each_number_of_threads(side: Open, model: Path) -> None:
    found = latency.measure(side(model), None, Plan(seconds=1, threads=(1, 2), batches=(1, 4)))
    rows = found.candidate.throughput
    assert [(row["threads"], row["batch"]) for row in rows] == [(1, 1), (2, 1)]
    assert all(row["per_second"] > 0 for row in rows)
    # Its input is fixed to one sample, so a batch of four is refused, once and in words.
    assert sum("no batch of 4" in note for note in found.notes) == 1


@pytest.mark.toolchain("keras")
def test_a_model_that_is_open_in_its_batch_runs_in_batches(side: Open, build: Any) -> None:
    path = build("keras", KERAS) / "model.h5"
    found = latency.measure(side(path), None, Plan(seconds=1, threads=(1,), batches=(1, 3)))
    assert [row["batch"] for row in found.candidate.throughput] == [1, 3]


KERAS = """
import keras
layers = [keras.layers.Input((4,)), keras.layers.Dense(3)]
keras.Sequential(layers).save("model.h5")
"""


def test_a_budget_too_short_for_an_interval_is_said(side: Open, model: Path) -> None:
    sides = side(model), side(model, "baseline")
    found = latency.measure(*sides, Plan(seconds=1e-3))
    assert found.ratio is None
    assert any("too few for a ratio" in note for note in found.notes)


def test_a_batch_is_pinned_where_the_file_has_the_samples() -> None:
    port = Port("x", (3, 1), "float32", permutation=(1, 0))
    subject = Subject(
        Artifact(Path("m"), _format(), "", Signature((port,), (port,))), "edgepipe.runners.x:X"
    )
    (found,) = latency.batched(subject, 8).artifact.ends().inputs
    assert found.shape == (3, 8)
    assert found.given_shape() == (8, 3)


def _format() -> Any:
    from edgepipe.artifact import Format

    return Format.TFLITE


def test_times_are_thinned_over_all_of_the_measurement() -> None:
    timing = latency.timing_of(list(np.arange(1, 10_001) / 1e3))
    assert timing.runs == 10_000
    assert len(timing.times) == latency.KEPT
    assert timing.times[0] == 0.001 and timing.times[-1] > 9.99
    assert list(timing.times) == sorted(timing.times)
    assert timing.p50 == pytest.approx(5.0, abs=0.001)


def test_looks_agree_to_what_they_have_in_common() -> None:
    wide, near = Interval(1.0, 0.8, 1.2), Interval(1.15, 1.0, 1.3)
    found = latency.narrowed(wide, near)
    assert found == Interval(1.15, 1.0, 1.2)
    apart = Interval(2.0, 1.9, 2.1)
    assert latency.narrowed(wide, apart) == apart
    assert latency.narrowed(None, wide) == wide and latency.narrowed(wide, None) == wide


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"threads": (0,)}, {"batches": (-1,)}])
def test_a_plan_that_measures_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Plan(**wrong)


class _Scripted(Side):
    """A side whose blocks take what is said, to watch what is made of them."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds

    def block(self) -> float:
        return self.seconds


@pytest.mark.parametrize(("blocks", "known"), [(5, False), (6, True), (9, True)])
def test_the_only_look_at_few_pairs_has_an_interval(
    blocks: int, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, *range(1, 100)])
    monkeypatch.setattr("edgepipe.validation.latency.time.monotonic", lambda: next(clock))
    sides = _Scripted("candidate", 0.2), _Scripted("baseline", 0.1)
    found, pairs = latency.by_turns(*sides, Plan(seconds=blocks))
    assert len(pairs) == blocks
    assert (found is not None) == known
    assert found is None or found.value == pytest.approx(2)


@pytest.mark.parametrize(("limit", "pairs"), [(None, 10), (1.1, 10), (2.0, 10)])
def test_measuring_ends_when_the_ratio_is_known(
    limit: float | None, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepipe.validation.latency.time.monotonic", lambda: 0.0)
    sides = _Scripted("candidate", 0.2), _Scripted("baseline", 0.1)
    _, made = latency.by_turns(*sides, Plan(seconds=1, ratio_limit=limit))
    assert len(made) == pairs
