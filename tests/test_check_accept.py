"""baseline.json: what is accepted, how later runs are judged by it, and a file of another model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import edgepipe
from edgepipe.cli.main import run
from edgepipe.errors import OptionError
from edgepipe.project import accepted
from edgepipe.report.outcome import Outcome

DIGITS = Path(__file__).parents[1] / "examples" / "digits_keras"
needs_all = pytest.mark.toolchain("keras", "onnx2tf", "edge")
PROJECT = f"""
[defaults]
model = "{DIGITS / "digits.h5"}"
validate = "{DIGITS / "held_out.npz"}"
[defaults.gates]
max-size-growth = "5%"
max-drop-since = "2 points"
[models.b]
[models.a]
target = "onnx"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "edgepipe.toml").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@needs_all
def test_accepted_run_is_what_later_ones_are_judged_by(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", "b", "-q"]) == 5
    told = capsys.readouterr().out
    assert "no earlier run was accepted" in told and "edgepipe check b --accept" in told
    assert not (project / "baseline.json").exists()

    assert run(["check", "-q", "--accept"]) == 0
    path = project / "baseline.json"
    first = path.read_text()
    document = json.loads(first)
    assert list(document["models"]) == ["a", "b"], "in an order that diffs well"
    entry = document["models"]["b"]
    assert entry["candidate"]["size"] == (project / "out/b/model_float32.tflite").stat().st_size
    assert [score["metric"] for score in entry["scores"]]
    assert run(["check", "-q", "--accept", "b"]) == 0
    assert path.read_text() == first, "the same again is not one byte else"
    assert run(["check", "-q"]) == 0

    entry["candidate"]["size"] = 10_000  # As if it had been a sixth of that.
    path.write_text(json.dumps(document))
    capsys.readouterr()
    assert run(["check", "-q"]) == 5
    told = capsys.readouterr().out
    assert "b: failed, 1 of 2 gates hold" in told and "max-size-growth" in told
    assert "a: " not in told

    entry["source"]["sha256"] = "0" * 64
    path.write_text(json.dumps(document))
    assert run(["check", "b"]) == 2
    told = capsys.readouterr().out
    assert "accepted another model as 'b'" in told and "000000000000…" in told
    assert "edgepipe check b --accept" in told and "--across-models" in told
    assert run(["check", "b", "--across-models", "-q"]) == 5, "judged by its size all the same"
    assert run(["check", "b", "--accept", "-q"]) == 0
    assert path.read_text() == first


@needs_all
def test_model_that_breaks_its_gates_is_not_accepted(project: Path) -> None:
    text = PROJECT.replace('max-size-growth = "5%"', 'max-size = "1 KiB"')
    (project / "edgepipe.toml").write_text(text)
    found = edgepipe.check(accept=True)
    assert found.exit_code == 5
    assert json.loads((project / "baseline.json").read_text())["models"] == {}


def outcome(**validation: Any) -> Outcome:
    report = {
        "source": {"sha256": "1" * 64},
        "chosen": "r",
        "routes": [],
        "outputs": [{"sha256": "2" * 64, "size": 10}],
    }
    return Outcome("a", report, {"gates": [], "candidate": {}, **validation})


def test_entry_is_small_and_rounded() -> None:
    interval = {"value": 1.23456789, "low": 1.0, "high": 2.0, "level": 0.95}
    timing = {"p50": 0.001, "times": [0.001 * number for number in range(1, 2001)]}
    found = accepted.entry(outcome(latency={"ratio": interval, "candidate": timing}))
    assert found["latency"] == {"ratio": {**interval, "value": 1.23457}}
    alone = {"ratio": None, "candidate": timing, "machine": {"cpu": "c", "load": 3}}
    found = accepted.entry(outcome(latency=alone))
    assert len(found["latency"]["candidate"]["times"]) <= accepted.TIMES
    assert found["latency"]["machine"] == {"cpu": "c"}
    assert found["source"] == {"sha256": "1" * 64}


def test_models_that_are_gone_are_left_out(tmp_path: Path) -> None:
    accepted.write(tmp_path, {}, {"b": outcome(), "a": outcome()})
    known = accepted.read(tmp_path)
    assert list(known) == ["a", "b"]
    accepted.write(tmp_path, {"a": known["a"]}, {})
    assert list(accepted.read(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no file of"),
        ("[]", "is no file of"),
        ('{"schema": 1, "models": {"a": {}}}', "is no file of"),
        ('{"schema": 1, "models": {"a": 3}}', "is no file of"),
        ('{"schema": 2, "models": {}}', "of schema 2, expected 1"),
    ],
)
def test_damaged_file_is_one_clear_error(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "baseline.json").write_text(text)
    with pytest.raises(OptionError, match=words):
        accepted.read(tmp_path)
