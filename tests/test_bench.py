"""`edgepipe bench`, and latency in a validation, on small real models; no time is asserted."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from validated_nets import dense, labelled

import edgepipe
from edgepipe import store_lock
from edgepipe.cli.main import run
from edgepipe.errors import OptionError, UnknownName
from edgepipe.settings import cache_root
from edgepipe.story import Silent
from edgepipe.validation import measuring
from edgepipe.validation.asked import Asked
from edgepipe.validation.evidence import Verdict
from edgepipe.validation.validating import check_gates

pytestmark = pytest.mark.toolchain("edge")


def test_a_model_is_measured_without_data(tmp_path: Path) -> None:
    found = edgepipe.bench(dense(tmp_path, "one.tflite"), latency_budget=0.5)
    assert found.data is None and found.baseline is None
    assert found.latency is not None and found.latency.candidate.runs > 0
    assert found.memory is not None and found.memory.arena
    assert found.placement is not None and found.placement.ops == 1
    assert found.energy is not None or found.absent["energy"]
    assert "--against" in found.absent["baseline"]


def test_two_models_are_run_by_turns(tmp_path: Path) -> None:
    found = edgepipe.bench(
        dense(tmp_path, "one.tflite"), against=dense(tmp_path, "two.tflite", 0.2),
        latency_budget=20, gates={"max-latency-ratio": 1000}, threads=1, batch=[1],
    )  # fmt: skip
    assert found.latency is not None and found.latency.baseline is not None
    assert found.latency.ratio is not None
    assert found.latency.machine["threads"] == {"candidate": 1, "baseline": 1}
    assert [row["threads"] for row in found.latency.candidate.throughput] == [1]
    assert found.memory is not None and found.memory.process_baseline is not None


def test_command_prints_a_table_and_writes_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = dense(tmp_path, "one.tflite"), tmp_path / "made" / "bench.json"
    assert run(["bench", str(model), "--latency-budget", "0.5", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    for words in ("p50", "deployed", "machine", "memory", "ran on", "no energy:"):
        if words != "no energy:" or "energy  " not in shown:
            assert words in shown
    document = json.loads(out.read_text())
    assert document["latency"]["candidate"]["p50"] > 0
    assert document["scores"] == []


def test_a_gate_that_cannot_hold_exits_with_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = dense(tmp_path, "one.tflite")
    words = ["bench", str(model), "--latency-budget", "1", "--gate", "max-latency=1e-9"]
    assert run(words) == 5
    assert "more than 1e-09 ms" in capsys.readouterr().err


def test_an_undecided_gate_passes_only_where_that_is_allowed(tmp_path: Path) -> None:
    model = dense(tmp_path, "one.tflite")
    found = edgepipe.bench(
        model, against=model, latency_budget=1e-3, gates={"max-latency-ratio": 1.1}
    )
    assert [gate.verdict for gate in found.gates] == [Verdict.UNDECIDED]
    check_gates(found.gates, True, tmp_path)
    with pytest.raises(edgepipe.EdgepipeError, match="--latency-budget"):
        check_gates(found.gates, False, tmp_path)


@pytest.mark.parametrize(
    ("gates", "error"),
    [
        ({"max-latncy": 3}, UnknownName),
        ({"max-latency": "fast"}, OptionError),
        ({"max-latency-ratio": -1}, OptionError),
    ],
)
def test_gates_are_read_before_anything_is_run(
    gates: dict[str, object], error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        edgepipe.bench(tmp_path / "none.tflite", gates=gates)


def test_unknown_arguments_are_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="keros"):
        edgepipe.bench(tmp_path / "none.tflite", baseline="keros")
    with pytest.raises(UnknownName) as error:
        edgepipe.bench(tmp_path / "none.tflite", latency_budgt=3)
    assert "latency_budget" in error.value.hint


def test_a_validation_measures_latency_where_it_is_asked_to(tmp_path: Path) -> None:
    model, data = dense(tmp_path, "one.tflite"), labelled(tmp_path, 20)
    found = edgepipe.validate(
        model, against=model, data=data, out=tmp_path / "out", latency=True, latency_budget=0.5
    )
    assert found.validation.latency is not None
    assert found.report["latency"]["candidate"]["times"]
    assert found.report["memory"]["arena"] > 0
    without = edgepipe.validate(model, against=model, data=data, out=tmp_path / "out")
    assert without.validation.latency is None
    assert "--latency" in without.validation.absent["latency"]


def asked(tmp_path: Path, **arguments: object) -> Asked:
    return Asked.of(tmp_path / "model.tflite", {"data": "x.npz", **arguments})


def test_gates_about_latency_have_it_measured(tmp_path: Path) -> None:
    assert not measuring.wanted(asked(tmp_path))
    assert not measuring.wanted(asked(tmp_path, gates={"max-drop": "1"}))
    assert measuring.wanted(asked(tmp_path, gates={"max-p99": "3"}))
    assert measuring.wanted(asked(tmp_path, batch=[4]))
    assert not measuring.wanted(asked(tmp_path, batch=[4], latency=False))


def test_plan_follows_what_was_asked(tmp_path: Path) -> None:
    gates = {"max-latency-ratio": "1.2"}
    plan = measuring.plan_of(asked(tmp_path, latency_budget=7, batch=[1, 8], gates=gates))
    assert (plan.seconds, plan.batches, plan.ratio_limit) == (7, (1, 8), 1.2)
    assert plan.threads[0] == 1
    assert measuring.plan_of(asked(tmp_path, threads=3)).threads == (3,)


def test_two_measurements_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "PATIENCE_SECONDS", -1)
    held = store_lock.try_lock(cache_root() / "latency.lock")
    while held is None:  # Another test, or a person, measures.
        time.sleep(0.1)
        held = store_lock.try_lock(cache_root() / "latency.lock")
    mine, told = held, list[str]()
    let_go = threading.Event()

    class Told(Silent):
        def note(self, text: str) -> None:
            told.append(text)
            if "waiting" in text:
                mine.release()
                let_go.set()

    model = dense(tmp_path, "one.tflite")
    found = edgepipe.bench(model, latency_budget=0.1, listener=Told())
    assert let_go.is_set()
    assert found.latency is not None
    assert sum("waiting for another" in text for text in told) == 1
