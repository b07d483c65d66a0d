"""`edgepipe validate`: a deployed model beside its float one, on labelled data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from validated_nets import MOVED, WEIGHTS, dense, labelled

import edgepipe
from edgepipe import making
from edgepipe.artifact import Port, Signature
from edgepipe.cli.main import run
from edgepipe.errors import InputError, LimitError, OptionError, SamplesError, UnknownName
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.story import Silent
from edgepipe.validation import evaluating, matching, validating
from edgepipe.validation.evaluating import Task
from edgepipe.validation.evidence import Gate, Verdict
from edgepipe.validation.validating import Validated

pytestmark = pytest.mark.toolchain("edge")

SAMPLES = 90


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return labelled(tmp_path, SAMPLES)


@pytest.fixture(autouse=True)
def own_store(fresh_store: Path) -> None:
    """What is made and kept is each test's own."""


@pytest.fixture
def session(own_store: None) -> Iterator[Session]:
    with Store() as store, Session(store) as made:
        yield made


def score(found: Validated, metric: str, output: str = "scores") -> Any:
    (one,) = [
        one for one in found.validation.scores if (one.metric, one.output) == (metric, output)
    ]
    return one


def validated(folder: Path, data: Path, **arguments: Any) -> Validated:
    said = {"against": dense(folder, "float.tflite"), "out": folder / "out", **arguments}
    return edgepipe.validate(dense(folder, "other.tflite", 0.2), data=data, **said)


def test_both_sides_get_their_accuracy_and_what_lies_between(tmp_path: Path, data: Path) -> None:
    named = ("top1", "agreement", "sqnr", "cosine")
    found = validated(tmp_path, data, metrics=named)
    with np.load(data) as file:
        x, labels = file["x"], file["labels"]
    wanted, received = x @ WEIGHTS.T, x @ MOVED.astype(np.float32).T
    top = score(found, "top1")
    assert top.baseline.value == pytest.approx(90.0)
    assert top.candidate.value == pytest.approx(100 * (received.argmax(1) == labels).mean())
    same = 100 * (received.argmax(1) == wanted.argmax(1)).mean()
    assert 50 < same < 100, "the test needs samples on which the two differ"
    assert score(found, "agreement").candidate.value == pytest.approx(same)
    noise = ((wanted - received) ** 2).sum()
    assert score(found, "sqnr").candidate.value == pytest.approx(
        10 * np.log10((wanted**2).sum() / noise), abs=0.01
    )
    assert score(found, "cosine").candidate.value == pytest.approx(
        np.mean((wanted * received).sum(1) / np.sqrt((wanted**2).sum(1) * (received**2).sum(1))),
        abs=1e-5,
    )
    apart = top.difference
    assert apart.value == pytest.approx(top.candidate.value - top.baseline.value)
    assert apart.low < apart.value < apart.high
    assert top.samples == SAMPLES


def test_document_is_what_was_seen(tmp_path: Path, data: Path) -> None:
    found = validated(tmp_path, data)
    assert found.path == tmp_path / "out" / "validation.json"
    report = json.loads(found.path.read_text())
    assert report == found.report
    assert report["verdict"] == "passed"
    assert report["data"]["samples"] == SAMPLES
    assert report["candidate"]["file"].endswith("other.tflite")
    assert [one["metric"] for one in report["scores"]] == ["top1", "agreement", "sqnr"]


def test_without_a_float_model_only_what_is_absolute_is_told(tmp_path: Path, data: Path) -> None:
    found = validated(tmp_path, data, against="")
    assert [one.metric for one in found.validation.scores] == ["top1"]
    assert "--against" in found.validation.absent["baseline"]


def test_without_labels_there_is_no_accuracy(tmp_path: Path, data: Path) -> None:
    with np.load(data) as file:
        np.save(tmp_path / "x.npy", file["x"])
    found = validated(tmp_path, tmp_path / "x.npy")
    assert [one.metric for one in found.validation.scores] == ["agreement", "sqnr"]
    with pytest.raises(SamplesError, match="top1 needs to know what is true"):
        validated(tmp_path, tmp_path / "x.npy", metrics=["top1"])


def test_each_output_is_scored_by_its_name(tmp_path: Path, data: Path) -> None:
    against = dense(tmp_path, "two.tflite", extra=True)
    other = dense(tmp_path, "two_other.tflite", 0.2, extra=True)
    found = edgepipe.validate(other, against=against, data=data, out=tmp_path / "out")
    assert {one.output for one in found.validation.scores} == {"scores", "shares"}
    assert score(found, "top1", "shares").candidate == score(found, "top1").candidate
    only = edgepipe.validate(
        other, against=against, data=data, out=tmp_path / "out", metrics=["sqnr@shares"]
    )
    assert [(one.metric, one.output) for one in only.validation.scores] == [("sqnr", "shares")]


def test_artifact_of_another_model_is_refused(tmp_path: Path, data: Path) -> None:
    against = dense(tmp_path, "two.tflite", extra=True)
    with pytest.raises(InputError, match=r"not made of two.tflite: it has 1 outputs"):
        validated(tmp_path, data, against=against)


def test_metric_that_compares_needs_something_to_compare_with(tmp_path: Path, data: Path) -> None:
    with pytest.raises(OptionError, match="compares with the float model"):
        validated(tmp_path, data, against="", metrics=["sqnr"])


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UnknownName) as error:
        validated(tmp_path, data, metrics=["topp1"])
    assert "top1" in error.value.hint
    with pytest.raises(UnknownName, match="baselin"):
        validated(tmp_path, data, baselin="keras")
    with pytest.raises(UnknownName, match="precision"):
        validated(tmp_path, data, precision="int8")


def test_device_that_nothing_would_heed_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(OptionError, match="--device usb: a tflite model has no such device"):
        validated(tmp_path, data, device="usb")
    assert validated(tmp_path, data, device="cpu").report["candidate"]["device"] == "cpu"


def test_progress_says_how_far_it_is(tmp_path: Path, data: Path) -> None:
    told: list[tuple[int, int, float | None]] = []

    class Listening(Silent):
        def progressed(self, what: str, done: int, total: int, left: float | None) -> None:
            told.append((done, total, left))

    validated(tmp_path, data, listener=Listening())
    assert told and all(total == SAMPLES for _, total, _ in told)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][0] == SAMPLES and told[-1][2] == 0
    assert all(left is not None and left >= 0 for _, _, left in told)


def test_data_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="on which samples"):
        edgepipe.validate(dense(tmp_path, "float.tflite"))


def test_broken_gate_ends_with_its_sentence(tmp_path: Path) -> None:
    gates = [
        Gate("max-drop", "1 point", "2 points", Verdict.FAILED, "top1 dropped by 2 points"),
        Gate("min-sqnr", "20 dB", "21 dB", Verdict.UNDECIDED, "40 more samples are needed"),
        Gate("max-size", "1 MiB", "4 KiB", Verdict.PASSED, "the file has 4 KiB"),
    ]
    with pytest.raises(LimitError) as error:
        validating.check_gates(gates, False, tmp_path)
    assert error.value.exit_code == 5
    assert "top1 dropped" in error.value.message and "40 more" in error.value.message
    assert "4 KiB" not in error.value.message
    validating.check_gates(gates[1:], True, tmp_path)
    with pytest.raises(LimitError, match="not enough to tell"):
        validating.check_gates(gates[1:], False, tmp_path)


def test_limits_are_judged_and_end_with_their_exit_code(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LimitError) as error:
        validated(tmp_path, data, gates={"max-drop": "2 points", "min-agreement": 0.5})
    assert error.value.details["gates"] == ["max-drop"]
    words = ["validate", str(dense(tmp_path, "other.tflite", 0.2)), "--data", str(data)]
    words += ["--against", str(dense(tmp_path, "float.tflite")), "-o", str(tmp_path / "out")]
    assert run([*words, "--gate", "max-drop=2"]) == 5
    assert "max-drop: top1 drops by 6.667 points (2.3 to 13.79)" in capsys.readouterr().err
    assert run([*words, "--gate", "max-drop=30", "--gate", "max-size=1M"]) == 0
    assert run([*words, "--gate", "max-drop=8"]) == 5
    assert "not enough samples to tell" in capsys.readouterr().err
    assert run([*words, "--gate", "max-drop=8", "--allow-undecided"]) == 0
    assert run([*words, "--gate", "max-dorp=8"]) == 2
    assert "did you mean max-drop" in capsys.readouterr().err


def test_limit_on_a_metric_has_it_measured(tmp_path: Path, data: Path) -> None:
    found = validated(tmp_path, data, metrics=["sqnr"], gates={"min-f1": 10, "min-sqnr": 1})
    assert [one.metric for one in found.validation.scores] == ["sqnr", "f1"]
    assert [one.verdict for one in found.validation.gates] == [Verdict.PASSED] * 2


def test_later_run_is_compared_with_the_accepted_one(tmp_path: Path, data: Path) -> None:
    accepted = validated(tmp_path, data).path
    same = validated(tmp_path, data, gates={"max-drop-since": 0.1}, since=accepted)
    assert same.validation.gates[0].verdict is Verdict.PASSED
    with pytest.raises(LimitError, match="top1 since the accepted run drops by"):
        edgepipe.validate(
            dense(tmp_path, "far.tflite", 2.0), against=dense(tmp_path, "float.tflite"),
            data=data, out=tmp_path / "far", gates={"max-drop-since": 1}, since=accepted,
        )  # fmt: skip
    with pytest.raises(OptionError, match="no document of a validation"):
        (tmp_path / "other.json").write_text("{}")
        validated(tmp_path, data, since=tmp_path / "other.json")


def test_command_prints_a_line_for_each_figure(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["validate", str(dense(tmp_path, "other.tflite", 0.2)), "--data", str(data)]
    against = str(dense(tmp_path, "float.tflite"))
    assert run([*words, "--against", against, "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "90 samples" in printed
    assert "top1" in printed and "agreement" in printed
    assert run([*words, "--against", against, "-o", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["samples"] == SAMPLES


# The engine


def described(session: Session, path: Path) -> Any:
    from edgepipe.request import Request, open_model

    artifact = open_model(Request(model=path), session.folder)
    return artifact.with_signature(making.describe(session, artifact).signature)


def task(session: Session, folder: Path, data: Path, **others: Any) -> Task:
    from edgepipe.request import Request
    from edgepipe.validation.metrics.planned import Planned
    from edgepipe.validation.subject import Subject

    baseline = described(session, dense(folder, "float.tflite"))
    candidate = described(session, dense(folder, "other.tflite", 0.2))
    source = Request(model="m").data(data)
    planned = (Planned("top1", "scores"), Planned("sqnr", "scores"))
    sides = (Subject.of(candidate), Subject.of(baseline))
    return replace(Task(*sides, source, baseline.ends(), planned), **others)


def test_rows_are_in_the_order_of_the_samples_however_many_work(
    session: Session, tmp_path: Path, data: Path
) -> None:
    alone = evaluating.evaluate(session, task(session, tmp_path, data, jobs=1), SAMPLES)
    for key in session.store.all_keys():
        session.store.remove(key)
    many = evaluating.evaluate(session, task(session, tmp_path, data, jobs=3), SAMPLES)
    assert many.kept == 0
    assert many.positions == alone.positions == list(range(SAMPLES))
    for name, rows in alone.rows.items():
        assert np.array_equal(np.concatenate(rows), np.concatenate(many.rows[name])), name


def test_what_was_evaluated_is_not_done_again(session: Session, tmp_path: Path, data: Path) -> None:
    first = evaluating.evaluate(session, task(session, tmp_path, data), SAMPLES)
    again = evaluating.evaluate(session, task(session, tmp_path, data), SAMPLES)
    assert (first.kept, again.kept) == (0, 6)  # 90 samples are six stretches of 16.


def test_killed_run_goes_on_from_what_is_done(
    session: Session, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = task(session, tmp_path, data, jobs=1)
    real = evaluating._Work.do

    def dying(self: Any, start: int, stop: int) -> bool:
        if start == 48:
            raise KeyboardInterrupt
        return real(self, start, stop)

    monkeypatch.setattr(evaluating._Work, "do", dying)
    with Session(session.store) as own, pytest.raises(KeyboardInterrupt):
        evaluating.evaluate(own, whole, SAMPLES)
    monkeypatch.undo()
    assert evaluating.evaluate(session, whole, SAMPLES).kept == 3


def test_candidates_share_the_outputs_of_the_baseline(
    session: Session, tmp_path: Path, data: Path
) -> None:
    first = task(session, tmp_path, data)
    evaluating.evaluate(session, first, SAMPLES)
    made = session.store.info().kinds["outputs"].entries
    third = described(session, dense(tmp_path, "third.tflite", 0.4))
    other = replace(first, candidate=replace(first.candidate, artifact=third))
    evaluating.evaluate(session, other, SAMPLES)
    assert session.store.info().kinds["outputs"].entries == made


# Ends


def ends(kind: str, *ports: Port) -> Signature:
    other = (Port("o", (1,), "float32"),)
    return Signature(ports, other) if kind == "in" else Signature(other, ports)


def test_ends_are_matched_by_name_then_shape_then_order() -> None:
    model = ends("out", Port("a", (1, 3), "float32"), Port("b", (1, 4), "float32"))
    file = ends("out", Port("call:0", (1, 4), "float32"), Port("call:1", (1, 3), "float32"))
    found = matching.matched(file, model, ("f", "m")).outputs
    assert [(port.name, port.tensor) for port in found] == [("a", "call:1"), ("b", "call:0")]


def test_layout_that_a_converter_changed_is_found_by_shape() -> None:
    model = ends("in", Port("image", (1, 3, 8, 10), "float32"))
    file = ends("in", Port("image", (1, 8, 10, 3), "float32"))
    (port,) = matching.matched(file, model, ("f", "m")).inputs
    assert port.permutation == (0, 2, 3, 1)
    assert port.given_shape() == (1, 3, 8, 10)


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (1, 3, 8), (2, 3, 8, 10)])
def test_shape_that_nothing_makes_fit_is_another_model(shape: tuple[int, ...]) -> None:
    model = ends("in", Port("image", (1, 3, 8, 10), "float32"))
    with pytest.raises(InputError, match="image"):
        matching.matched(ends("in", Port("image", shape, "float32")), model, ("f", "m"))


def test_help_names_what_can_be_said() -> None:
    from edgepipe.cli.validate import validate

    shown = CliRunner().invoke(validate, ["--help"]).output
    for flag in ("--against", "--data", "--gate", "--baseline", "--allow-leak", "--jobs"):
        assert flag in shown
