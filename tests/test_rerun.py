"""`edgepipe rerun`: the same again is the same, and each thing that differs is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepipe
from edgepipe import repetition
from edgepipe.cli.main import run
from edgepipe.errors import EdgepipeError, ModelNotFound, OptionError, TrustRequired
from edgepipe.report.comparison import Difference, compare
from edgepipe.validation import proportions, since
from edgepipe.validation.evidence import Interval, Score, Validation

DIGITS = Path(__file__).parents[1] / "examples" / "digits_keras"
needs_all = pytest.mark.toolchain("keras", "onnx2tf", "edge")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, converted and validated with relative paths."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("digits.h5", "calibration.npz", "held_out.npz"):
        shutil.copy(DIGITS / name, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        edgepipe.convert(
            "digits.h5", out="out", precision="int8", calibration="calibration.npz",
            validate="held_out.npz", seed=3, gates={"min-agreement": "90%"},
        )  # fmt: skip
    return folder


@needs_all
def test_the_same_again_is_the_same_bit_for_bit(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # The report's paths are from where it was made.
    report = made / "out" / "report.json"
    assert run(["rerun", str(report), "--exact", "-o", "again"]) == 0
    told = capsys.readouterr()
    assert "the same bit for bit" in told.out
    assert "kept" not in told.err, "what the store has proves nothing"
    first, second = (json.loads((one / "report.json").read_text()) for one in
                     (made / "out", tmp_path / "again"))  # fmt: skip
    assert first["request"]["seed"] == second["request"]["seed"] == 3
    assert first["validation"]["scores"] == second["validation"]["scores"]
    assert [one["validation"]["gates"][0]["verdict"] for one in (first, second)] == ["passed"] * 2
    assert run(["rerun", str(report), "--kept", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "same_files": True, "worse": False, "differences": [], "error": None,
    }  # fmt: skip


@needs_all
def test_source_that_changed_or_moved_is_named(made: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    shutil.copytree(made, there)
    report = there / "out" / "report.json"
    document = json.loads(report.read_text())
    document["folder"] = str(there)
    report.write_text(json.dumps(document))
    (there / "calibration.npz").unlink()
    with pytest.raises(ModelNotFound, match=r"calibration .*calibration\.npz") as caught:
        repetition.rerun(report, kept=True)
    assert "--moved" in caught.value.hint
    moved = {str(there / "calibration.npz"): str(made / "calibration.npz")}
    assert repetition.rerun(report, kept=True, moved=moved).same_files

    model = there / "digits.h5"
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(OptionError, match=r"not what it was .*model .*digits\.h5") as refused:
        repetition.rerun(report, kept=True, moved=moved)
    assert "--allow-changed" in refused.value.hint
    again = repetition.rerun(report, kept=True, moved=moved, allow_changed=True)
    assert [one.what for one in again.differences if one.kind == "input"] == ["source"]


@needs_all
def test_result_that_is_worse_ends_with_five(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((made / "out" / "report.json").read_text())
    step = next(one for one in document["routes"] if one["status"] == "chosen")["steps"][-1]
    step["proof"]["sqnr_db"] += 9
    document["outputs"][-1]["sha256"] = "0" * 64
    document["toolchains"]["keras"]["fingerprint"] = "other"
    document["toolchains"]["keras"]["versions"]["keras"] = "0.0.1"
    report = tmp_path / "report.json"
    report.write_text(json.dumps(document))
    assert run(["rerun", str(report), "--kept"]) == 5
    out = " ".join(capsys.readouterr().out.split())
    assert "version keras in keras: 0.0.1 →" in out
    assert "file model_int8.tflite: 000000000000…" in out
    assert "figure SQNR of tflite_quantize" in out and "(worse)" in out
    assert "worse than it was, in 1 points" in out


def test_gates_about_an_accepted_run_are_about_the_reports_own(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text("{}")
    asked = {"data": "test.npz", "gates": {"max-size-growth": "5%"}, "jobs": 2, "threads": 1,
             "truth": "boxes.json"}  # fmt: skip
    seen = {"asked": asked, "scores": []}
    wanted = repetition._validation(
        {"folder": str(tmp_path), "validation": seen}, repetition.Asked()
    )
    assert wanted == {
        "validate": str(tmp_path / "test.npz"),
        "gates": {"max-size-growth": "5%"},
        "threads": 1,
        "truth": str(tmp_path / "boxes.json"),
        "since": seen,
    }


def test_report_does_not_consent_for_the_user(tmp_path: Path) -> None:
    document = {"request": {"model": "a.h5", "trust": True}, "folder": str(tmp_path)}
    with pytest.raises(TrustRequired, match="trust"):
        repetition.request_of(document, repetition.Asked())
    document["request"] = {"model": "a.h5", "compiler": "./evil", "target": "edgetpu"}
    with pytest.raises(TrustRequired, match="compiler"):
        repetition.request_of(document, repetition.Asked())
    document["request"] = {"model": "a.h5", "options": {"edgetpu_compile": {"compiler": "x"}}}
    with pytest.raises(TrustRequired, match=r"edgetpu_compile\.compiler"):
        repetition.request_of(document, repetition.Asked())
    trusted = repetition.request_of(document, repetition.Asked(trust=True))
    assert trusted.trust and trusted.model == str(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("{", OptionError, "is no report"),
        ("3", OptionError, "is no report"),
        ("{}", OptionError, "no report of a conversion"),
        ('{"targets": [{"report": "tflite/report.json"}]}', OptionError, "several targets"),
        (None, ModelNotFound, "can't be read"),
    ],
)
def test_what_is_no_report(
    tmp_path: Path, text: str | None, kind: type[EdgepipeError], words: str
) -> None:
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(kind, match=words):
        repetition.read(path)
    assert run(["rerun", str(path)]) == 2


def report(**changed: Any) -> dict[str, Any]:
    proof = {"sqnr_db": 50.0, "not_run": ""}
    return {
        "edgepipe": "0.1.0",
        "status": "done",
        "chosen": "r",
        "machine": {"system": "Linux", "processor": "x86_64", "python": "3.11.7"},
        "source": {"sha256": "1" * 64},
        "toolchains": {},
        "routes": [
            {
                "route": "r",
                "status": "chosen",
                "end_to_end": None,
                "steps": [{"stage": "s", "proof": proof}],
            }
        ],
        "outputs": [{"path": "m.tflite", "sha256": "2" * 64, "size": 10}],
        **changed,
    }


def gates(**verdicts: str) -> dict[str, Any]:
    return {
        "scores": [],
        "gates": [{"name": name, "verdict": verdict} for name, verdict in verdicts.items()],
    }


def test_each_kind_of_difference_is_told() -> None:
    assert list(compare(report(), report())) == []
    other = report(
        edgepipe="0.2.0",
        chosen="q",
        machine={"system": "Linux", "processor": "aarch64", "python": "3.11.7"},
        outputs=[{"path": "n.tflite", "sha256": "3" * 64, "size": 1000}],
    )
    found = list(compare(report(), other))
    assert [(one.kind, one.what, one.worse) for one in found] == [
        ("version", "edgepipe", False),
        ("machine", "processor", False),
        ("route", "chosen", False),
        ("file", "m.tflite", True),
        ("file", "n.tflite", False),
    ]
    assert found[4].words() == "file n.tflite: absent → 333333333333…, 1,000 bytes"


def test_gates_are_worse_when_they_fall() -> None:
    before = report(validation=gates(drop="passed", size="failed", gone="passed"))
    after = report(validation=gates(drop="undecided", size="passed"))
    assert list(compare(before, after)) == [
        Difference("gate", "drop", "passed", "undecided", worse=True),
        Difference("gate", "size", "failed", "passed"),
    ]


def seen(right: int, sha: str) -> dict[str, Any]:
    """Of 400 samples, the first `right` ones."""
    bits = np.arange(400) < right
    share = 100 * right / 400
    low, high = (100 * end for end in proportions.wilson(right, 400))
    score = Score(
        "top1", "y", "%", True, 400, Interval(share, low, high), kept=since.keep(bits)
    )  # fmt: skip
    data = {"digest": "4" * 64, "samples": 400}
    found = Validation({"sha256": sha, "size": 1}, None, data, scores=(score,))
    return found.to_json()


def test_score_is_worse_where_that_is_more_than_chance() -> None:
    """18 of 400 that only the earlier run had right are; 1 is not, nor are 18 gained."""
    for now, worse in ((382, True), (399, False)):
        before, after = (report(validation=seen(right, str(right))) for right in (400, now))
        (found,) = compare(before, after)
        assert (found.kind, found.what, found.worse) == ("figure", "top1 of y", worse)
        (gained,) = compare(after, before)
        assert not gained.worse


def test_failure_where_it_was_done_is_worse() -> None:
    failed = report(status="failed", chosen=None, routes=[], outputs=[])
    kinds = [one.kind for one in compare(report(), failed) if one.worse]
    assert kinds == ["outcome", "file"]
