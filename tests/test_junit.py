"""JUnit XML and Markdown of conversions and validations: valid, complete, and safe to show."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from junit_schema import suites

from edgepipe.cli.main import run
from edgepipe.report import junit, markdown
from edgepipe.report.outcome import Outcome
from edgepipe.validation.evidence import (
    Gate,
    Interval,
    Latency,
    Placement,
    Score,
    Timing,
    Validation,
    Verdict,
)

DIGITS = Path(__file__).parents[1] / "examples" / "digits_keras"
needs_all = pytest.mark.toolchain("keras", "onnx2tf", "edge")
SHA = "5" * 64


def gate(name: str, verdict: Verdict, words: str = "all is well") -> Gate:
    return Gate(name, "1 points", "0.4 points", verdict, words)


def validation(*gates: Gate) -> dict[str, Any]:
    score = Score(
        "top1", "digit", "", True, 360,
        Interval(0.95, 0.92, 0.97), Interval(0.96, 0.93, 0.98), Interval(-0.01, -0.02, 0.0),
    )  # fmt: skip
    timing = Timing(0.001, 0.002, 0.002, 0.003, 0.001, 50)
    found = Validation(
        candidate={"file": "m.tflite", "sha256": SHA, "size": 2048},
        baseline=None,
        data=None,
        scores=(score,),
        latency=Latency(timing, timing, Interval(0.5, 0.4, 0.6)),
        placement=Placement("edgetpu", 9, 10),
        gates=gates,
        seconds=2.5,
    )
    return found.to_json()


def step(stage: str, status: str, **more: Any) -> dict[str, Any]:
    return {"stage": stage, "status": status, "seconds": 1.5, "error": None, "proof": None,
            "log": "", **more}  # fmt: skip


def error(kind: str, message: str, **more: Any) -> dict[str, Any]:
    return {"error": kind, "message": message, "hint": "", "details": {}, **more}


def report(chosen: str | None, **routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "chosen": chosen,
        "created": "2026-01-02T03:04:05Z",
        "request": {"target": "tflite"},
        "routes": [{"route": name, "steps": steps} for name, steps in routes.items()],
        "outputs": [{"sha256": SHA, "size": 2048}] if chosen else [],
    }


def names(suite: Element, tag: str = "") -> list[str]:
    cases = suite.findall("testcase")
    return [case.attrib["name"] for case in cases if not tag or case.find(tag) is not None]


def test_steps_and_gates_are_cases() -> None:
    made = report("main", main=[step("onnx_from_keras", "kept"), step("tflite_from_onnx", "made")])
    seen = validation(
        gate("max-drop", Verdict.PASSED),
        gate("min-top1", Verdict.FAILED, "0.85 is below 0.9"),
        gate("max-mae", Verdict.UNDECIDED, "not enough samples to tell: 40 more are needed"),
    )
    outcome = Outcome("a/tflite", made, seen, exit_code=5, target="tflite")
    (suite,) = suites(junit.text([outcome]))
    assert names(suite) == [
        "step onnx_from_keras", "step tflite_from_onnx",
        "gate max-drop", "gate min-top1", "gate max-mae",
    ]  # fmt: skip
    assert names(suite, "failure") == ["gate min-top1", "gate max-mae"]
    words = [found.attrib["message"] for found in suite.iter("failure")]
    assert words == ["0.85 is below 0.9", "not enough samples to tell: 40 more are needed"]
    assert suite.attrib["timestamp"] == "2026-01-02T03:04:05"
    (suite,) = suites(junit.text([outcome], allow_undecided=True))
    assert names(suite, "failure") == ["gate min-top1"]
    assert names(suite, "skipped") == ["gate max-mae"]


def test_failed_step_is_no_failure_where_another_route_was_taken() -> None:
    broken = step("tflite_from_onnx", "failed", error=error("StageFailed", "no such op"))
    fell_back = report("second", first=[broken], second=[step("tflite_from_onnx", "made")])
    (suite,) = suites(junit.text([Outcome("a", fell_back)]))
    assert names(suite, "skipped") == ["step tflite_from_onnx (first)"]
    lost = report(None, first=[broken], second=[step("x", "unproven")])
    failed = Outcome("a", lost, error=error("NoRouteLeft", "every route failed"), exit_code=4)
    (suite,) = suites(junit.text([failed]))
    assert names(suite, "error") == ["step tflite_from_onnx (first)"]
    assert names(suite, "failure") == ["step x (second)"]


def test_error_before_any_step_is_a_case_of_its_own() -> None:
    lacking = error("ToolchainMissing", "keras is not here\x00\x1b[0m", hint="install <it> & go")
    (suite,) = suites(junit.text([Outcome("a", error=lacking, exit_code=3)]))
    assert names(suite, "error") == ["run"]
    (found,) = suite.iter("error")
    assert found.attrib["message"] == "keras is not here\ufffd\ufffd[0m"
    assert found.text is not None and "install <it> & go" in found.text


def test_model_that_had_nothing_to_do_is_a_case_too() -> None:
    (suite,) = suites(junit.text([Outcome("as it is", report("as-is"))]))
    assert names(suite) == ["run"]


def test_markdown_shows_what_is_wrong_and_folds_the_rest() -> None:
    seen = validation(gate("min-top1", Verdict.FAILED, "0.85 is below 0.9"))
    broken = Outcome("b", report("r", r=[step("s", "made")]), seen, exit_code=5)
    text = markdown.text([Outcome("a", report("r", r=[]), validation()), broken])
    assert text.startswith("### edgepipe: 1 of 2 models passed, 1 failed\n")
    assert "| a | ✅ passed | 2.0 KiB | top1 0.95 [0.92, 0.97] | -0.01 [-0.02, 0] |" in text
    assert "| 0.5 [0.4, 0.6] times | 9/10 |" in text
    assert "- **b**: 0.85 is below 0.9" in text
    assert text.index("<summary>b</summary>") < text.index("<summary>a</summary>")
    assert text.count("<details>") == text.count("</details>") == 2


def test_markdown_keeps_text_from_being_markup() -> None:
    words = "<img src=x> | @everyone [a](b) `c`\nnext"
    text = markdown.text([Outcome("*n*", error=error("UsageError", words), exit_code=2)])
    line = next(line for line in text.splitlines() if line.startswith("- **"))
    assert "<img" not in text and "@everyone" not in text and "[a]" not in text
    assert line.endswith("next") and "&lt;img" in line and "&#42;n&#42;" in line
    assert "1 did not get to an end" in text


def test_markdown_stays_below_the_limit_of_a_comment() -> None:
    gates = [gate(f"g{number}", Verdict.PASSED, "w" * 200) for number in range(100)]
    some = [Outcome(f"m{number}", validation=validation(*gates)) for number in range(4)]
    text = markdown.text(some)
    assert len(text) <= markdown.MOST and "The details of 2 models are too long" in text
    many = [Outcome(f"m{number}" * 9, validation=validation()) for number in range(2000)]
    text = markdown.text(many)
    assert len(text) <= markdown.MOST and "too long to show here" in text


@needs_all
def test_convert_writes_both(tmp_path: Path) -> None:
    out, xml, page = tmp_path / "out", tmp_path / "ci" / "r.xml", tmp_path / "r.md"
    words = ["convert", str(DIGITS / "digits.h5"), "-q", "-o", str(out)]
    words += ["--junit", str(xml), "--markdown", str(page)]
    assert run(words) == 0
    (suite,) = suites(xml.read_text())
    assert suite.attrib["name"] == "digits" and suite.attrib["failures"] == "0"
    assert "step tflite_from_onnx" in names(suite)
    assert "1 of 1 model passed" in page.read_text()

    assert run([*words, "--target", "onnx", "--target", "tflite"]) == 0
    both = suites(xml.read_text())
    assert [suite.attrib["name"] for suite in both] == ["digits/onnx", "digits/tflite"]

    assert run([*words, "--validate", str(DIGITS / "none.npz")]) == 2
    (suite,) = suites(xml.read_text())
    assert names(suite, "error") == ["run"]
    assert "did not get to an end" in page.read_text()


@needs_all
def test_validate_writes_both(tmp_path: Path) -> None:
    out, xml, page = tmp_path / "out", tmp_path / "r.xml", tmp_path / "r.md"
    data = str(DIGITS / "held_out.npz")
    assert run(["convert", str(DIGITS / "digits.h5"), "-q", "-o", str(out)]) == 0
    words = ["validate", str(out), "--data", data, "--limit", "40", "-q"]
    assert run([*words, "--junit", str(xml), "--markdown", str(page)]) == 0
    (suite,) = suites(xml.read_text())
    assert suite.attrib["name"] == "out"
    assert "top1" in page.read_text()


def test_outcome_is_plain_data() -> None:
    outcome = Outcome("a", validation=validation(gate("g", Verdict.UNDECIDED)), exit_code=5)
    assert asdict(outcome)["validation"]["verdict"] == "undecided"
    assert outcome.status == "undecided"
