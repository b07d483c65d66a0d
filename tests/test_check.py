"""`edgepipe check`: several models, their exit codes, what is kept, what an interrupt leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from junit_schema import suites

import edgepipe
from edgepipe.cli.main import run
from edgepipe.errors import ToolchainMissing
from edgepipe.project import case_run, checking, models
from edgepipe.project.case_run import Task

DIGITS = Path(__file__).parents[1] / "examples" / "digits_keras"
needs_all = pytest.mark.toolchain("keras", "onnx2tf", "edge")
DEFAULTS = f"""
[defaults]
validate = "{DIGITS / "held_out.npz"}"
limit = 60
[defaults.gates]
min-agreement = "90%"
"""
MODEL = f'model = "{DIGITS / "digits.h5"}"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(folder: Path, text: str) -> None:
    (folder / "edgepipe.toml").write_text(text)


@needs_all
def test_models_are_converted_and_judged_and_kept_the_next_time(
    project: Path, fresh_store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(project, f"{DEFAULTS}[models.one]\n{MODEL}[models.two]\n{MODEL}target = 'onnx'\n")
    files = ["--junit", "ci/r.xml", "--markdown", "ci/r.md"]
    assert run(["check", "-j", "2", *files]) == 0
    told = capfd.readouterr()
    assert "2 of 2 models passed" in told.out
    assert all(line.startswith(("one  ", "two  ")) for line in told.err.splitlines())
    assert (project / "out" / "one" / "model_float32.tflite").is_file()
    assert (project / "out" / "two" / "report.html").is_file()
    assert [suite.attrib["name"] for suite in suites((project / "ci/r.xml").read_text())] == [
        "one",
        "two",
    ]
    assert "| one | ✅ passed |" in (project / "ci/r.md").read_text()

    assert run(["check", "one", "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)["models"]
    assert (row["name"], row["status"], row["exit_code"]) == ("one", "passed", 0)
    assert row["made"] == [] and "tflite_from_onnx" in row["kept"]
    assert [gate["verdict"] for gate in row["gates"]] == ["passed"]


@needs_all
def test_broken_gate_is_five_with_a_line_and_stops_no_other(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = f"[models.large]\n{MODEL}gates.max-size = '1 KiB'\n"
    write(project, f"{DEFAULTS}{broken}[models.good]\n{MODEL}")
    assert run(["check", "--junit", "r.xml"]) == 5
    out = capfd.readouterr().out
    assert "✗ large: failed, 1 of 2 gates hold" in out and "✓ good: passed" in out
    assert "1 of 2 models passed, 1 failed" in out
    (words,) = [line.strip() for line in out.splitlines() if "max-size" in line]
    assert "at most 1,024 are allowed" in words
    large, good = suites((project / "r.xml").read_text())
    assert (large.attrib["failures"], good.attrib["failures"]) == ("1", "0")


@needs_all
def test_each_failure_has_its_own_code_and_the_worst_is_the_commands(project: Path) -> None:
    lost = "[models.lost]\nmodel = 'none.h5'\n"
    unproven = f"[models.strict]\n{MODEL}min_sqnr = 199.9\n"
    write(project, f"{lost}{unproven}[models.good]\n{MODEL}")
    found = edgepipe.check()
    codes = {outcome.name: outcome.exit_code for outcome in found.outcomes}
    assert codes == {"lost": 2, "strict": 4, "good": 0}
    assert found.exit_code == 2
    lost_one = found.outcomes[0]
    assert lost_one.status == "error" and "none.h5" in lost_one.words()[0]
    strict = found.outcomes[1]
    assert strict.report is not None and strict.report["status"] == "failed"
    assert edgepipe.check(["good", "strict"]).exit_code == 4


def test_missing_toolchains_of_all_models_are_said_at_once(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPIPE_CACHE", str(tmp_path / "empty"))
    for name in list(os.environ):
        if name.startswith("EDGEPIPE_PYTHON_"):
            monkeypatch.delenv(name)
    write(project, f"[models.a]\n{MODEL}[models.b]\n{MODEL}target = 'openvino'\n")
    heard: list[str] = []
    with pytest.raises(ToolchainMissing) as caught:
        edgepipe.check(told=lambda name, line: heard.append(line))
    for name in ("keras", "onnx2tf", "openvino"):
        assert name in caught.value.hint
    assert heard == [] and not (project / "out").exists()


@needs_all
def test_dry_run_and_toolchains_run_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, f"{DEFAULTS}[models.a]\n{MODEL}[models.b]\n{MODEL}target = 'openvino'\n")
    assert run(["check", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "a  tflite float32, 1 gate, into" in told and "b  openvino float32" in told
    assert run(["check", "--toolchains"]) == 0
    assert {"keras", "onnx2tf", "edge", "openvino"} <= set(capsys.readouterr().out.split())
    assert run(["check", "--toolchains", "a"]) == 0
    assert "openvino" not in capsys.readouterr().out.split()
    assert not (project / "out").exists()


def test_models_have_the_machine_alone_where_latency_is_judged(project: Path) -> None:
    write(project, f"{DEFAULTS}[models.a]\n{MODEL}[models.b]\n{MODEL}gates.max-p99 = '1 s'\n")
    plain, timed = models.find().cases
    assert checking._jobs([plain, timed]) == 1
    assert checking._jobs([plain]) == max(1, (os.cpu_count() or 1) // 2)


def test_unknown_model_is_named(project: Path) -> None:
    write(project, f"[models.a]\n{MODEL}")
    assert run(["check", "b"]) == 2


@needs_all
def test_interrupt_leaves_nothing_half_written(project: Path, fresh_store: Path) -> None:
    write(project, f"{DEFAULTS}[models.one]\n{MODEL}[models.two]\n{MODEL}target = 'onnx'\n")
    words = ["check", "-j", "2", "--accept", "--junit", "r.xml", "--markdown", "r.md"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgepipe", *words],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stderr is not None
        process.stderr.readline()  # A conversion has begun.
        children = _children(process.pid)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert children
    assert process.returncode == 130, told
    assert "Traceback" not in told
    left = {path.name for path in project.rglob("*") if path.is_file()}
    assert not {"r.xml", "r.md", "baseline.json"} & left
    assert not [name for name in left if name.endswith(".partial")]
    _wait_for_end(children)
    assert edgepipe.check().exit_code == 0, "the next run goes on from there"


@needs_all
def test_models_end_with_a_command_that_was_killed(project: Path, fresh_store: Path) -> None:
    write(project, f"[models.one]\n{MODEL}")
    process = subprocess.Popen(
        [sys.executable, "-m", "edgepipe", "check"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with process:
        assert process.stderr is not None
        process.stderr.readline()
        children = _children(process.pid)
        process.kill()
    assert children
    _wait_for_end(children)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children")
    if not text.exists():
        pytest.skip("the children of a process can't be listed here")
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in threads for word in path.read_text().split()]


def _wait_for_end(pids: list[int]) -> None:
    """They have workers to end first; nothing here is about how long that takes."""
    while any(_alive(pid) for pid in pids):
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_process_that_dies_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, f"[models.a]\n{MODEL}[models.b]\n{MODEL}")
    start = (
        "import os, sys\nprint('last words', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 9)"
    )
    monkeypatch.setattr(checking, "START", start)
    monkeypatch.setattr(checking, "_require_toolchains", lambda project, cases: None)
    found = edgepipe.check(["a"])
    (outcome,) = found.outcomes
    assert (outcome.status, outcome.exit_code) == ("error", 1)
    assert "ended with -9" in outcome.words()[0]
    assert outcome.error is not None and outcome.error["details"]["tail"] == ["last words"]


def test_folder_of_the_user_shadows_no_module(project: Path) -> None:
    (project / "json.py").write_text("raise SystemExit('the wrong json')")
    (project / "edgepipe").mkdir()
    (project / "edgepipe" / "__init__.py").write_text("")
    write(project, "[models.a]\nmodel = 'none.h5'\n")
    assert edgepipe.check().outcomes[0].exit_code == 2


def test_task_survives_the_pipe(project: Path) -> None:
    write(project, f"{DEFAULTS}[models.a]\n{MODEL}inputs = ['x=1x8x8x1']\n")
    case = models.find().cases[0]
    task = Task(case, str(project), {"source": {"sha256": "0"}}, more={"trust": True})
    again = Task.from_json(json.loads(json.dumps(task.to_json())))
    assert _plain(case_run.arguments(again)) == _plain(case_run.arguments(task))
    assert case_run.arguments(task)["trust"] is True


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
