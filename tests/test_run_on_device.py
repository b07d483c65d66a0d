"""The runner as it is on a board: old and new Pythons, and what it says of what is missing."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bundles import (
    COUNT,
    RUNNER,
    Converted,
    an_old_python,
    converted,
    model_of,
    python_of,
    result_of,
    run,
)

import edgepipe

pytestmark = pytest.mark.toolchain("edge")
run_on_device: Any = importlib.import_module("edgepipe.device_tests.run_on_device")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return converted(tmp_path_factory.mktemp("converted"))


@pytest.fixture(scope="module")
def bundle(subject: Converted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return subject.bundle(tmp_path_factory.mktemp("bundle") / "net.edgebundle").path


@pytest.fixture(scope="module")
def python() -> Path:
    return python_of("edge")


@pytest.fixture(scope="module")
def result(bundle: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return result_of(bundle, tmp_path_factory.mktemp("result"), python=python)


# What it measures


def test_on_the_same_kernels_nothing_differs_from_the_host(result: dict[str, Any]) -> None:
    for model in result["models"]:
        (output,) = model["outputs"].values()
        assert output["host"]["differing"] == 0
        assert output["host"]["elements"] == COUNT * 16
    (output,) = model_of(result)["outputs"].values()
    assert output["host"]["histogram"] == {"0": COUNT * 16}
    assert output["step"] == pytest.approx(1 / 256)


def test_float_model_is_the_reference(result: dict[str, Any]) -> None:
    (exact,) = model_of(result, "model_float32.tflite")["outputs"].values()
    (rough,) = model_of(result)["outputs"].values()
    assert exact["reference"]["sqnr_db"] > 100 > rough["reference"]["sqnr_db"] > 10
    assert exact["reference"]["agreement"] == 1.0


def test_accuracy_is_of_the_labels_and_paired_with_the_float_model(
    subject: Converted, result: dict[str, Any]
) -> None:
    labels = np.load(subject.data)["labels"]
    found = model_of(result)
    wanted = sum(found["answers"] == labels) / COUNT
    seen = found["accuracy"]
    assert seen["device"] == pytest.approx(wanted)
    low, high = seen["interval"]
    assert low <= wanted <= high
    assert seen["only_float_right"] - seen["only_device_right"] == pytest.approx(
        COUNT * (seen["float"] - seen["device"])
    )
    low, high = seen["drop_interval"]
    assert low <= seen["drop"] <= high


def test_latency_memory_and_the_machine_are_told(result: dict[str, Any]) -> None:
    latency = model_of(result)["latency"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
    assert min(latency["load"], latency["cold"]) > 0
    assert len(latency["times"]) == latency["runs"] >= 5
    assert model_of(result)["memory"]["growth"] > 0
    assert result["board"]["cores"] == os.cpu_count()
    assert re.fullmatch("[0-9a-f]{64}", result["bundle"]["sha256"])


def test_delegate_that_was_used_is_read_from_the_graph(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    def placement(name: str) -> dict[str, Any]:
        words = ("--delegate", name, "--no-latency", "--only", "model_float32.tflite")
        found = result_of(bundle, tmp_path / name, *words, python=python)
        placed: dict[str, Any] = model_of(found, "model_float32.tflite")["placement"]
        return placed

    assert placement("xnnpack")["used"] is True
    assert placement("xnnpack")["taken"] == placement("xnnpack")["ops"] > 1
    assert placement("none")["used"] is placement("reference")["used"] is False


def test_a_delegate_that_took_nothing_fails(bundle: Path, python: Path, tmp_path: Path) -> None:
    """Inner tensors can't be kept of what a delegate took, so LiteRT leaves XNNPACK out."""
    placement = {"asked": "xnnpack", "used": False, "taken": 0, "ops": 4, "left": {}}
    found = run_on_device._judge_placement(placement, "tflite", None)
    assert found["verdict"] == "failed"
    assert "took none of the 4 ops" in found["words"]


def test_outputs_and_inner_tensors_are_written_to_be_compared(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    words = ("--keep-tensors", "--delegate", "none", "--no-latency", "--limit", "3")
    result = result_of(bundle, tmp_path, *words, python=python)
    found = model_of(result)
    with np.load(tmp_path / found["outputs_file"]) as file:
        assert json.loads(str(file["names"])) == list(found["outputs"])
        assert (file["o0"].dtype, len(file["o0"])) == (np.int8, 3)
    with np.load(tmp_path / found["tensors"]["file"]) as file:
        index = json.loads(str(file["index"]))
        assert [row["op"] for row in index].count("FULLY_CONNECTED") == 2
        assert all(row["step"] for row in index if file[f"t{index.index(row)}"].dtype == np.int8)


def test_other_numbers_are_seen_in_steps() -> None:
    column = run_on_device.Column({
        "step": 0.5, "reference": "", "details": {
            "dtype": np.int8,
            "quantization_parameters": {"scales": [0.5], "zero_points": [0]},
        },
    })  # fmt: skip
    seen = np.array([[1, 2, 3, 30]], np.int8)
    column.add(seen, seen * np.float32(0.5), np.array([[1, 1, 5, 3]], np.int8), None)
    found = column.to_json()["host"]
    assert found["histogram"] == {"0": 1, "1": 1, "2": 1, ">8": 1}
    assert (found["most_steps"], found["share"]) == (27, 0.75)


@pytest.mark.parametrize(("one", "other"), [(0, 0), (3, 3), (0, 6), (1, 9), (20, 40)])
def test_mcnemar_is_exact(one: int, other: int) -> None:
    from math import comb

    count = one + other
    tail = sum(comb(count, k) for k in range(min(one, other) + 1)) / 2**count
    assert run_on_device.mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail))


def test_intervals_are_those_of_validate() -> None:
    from edgepipe.validation import proportions

    for won, lost, count in ((0, 0, 20), (3, 1, 40), (0, 9, 100), (7, 7, 7 * 2), (5, 0, 5)):
        ours = run_on_device.tango(won, lost, count)
        assert ours == pytest.approx(proportions.tango(won, lost, count), abs=1e-6)
        ours = run_on_device.wilson(won, count)
        assert ours == pytest.approx(proportions.wilson(won, count), abs=1e-6)


def test_wilson_interval_is_the_published_one() -> None:
    assert run_on_device.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert run_on_device.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.0, 0.4, "passed"), (0.6, 0.9, "failed"), (0.4, 0.6, "undecided")],
)
def test_verdict_is_of_the_whole_interval(low: float, high: float, verdict: str) -> None:
    assert run_on_device.against((low + high) / 2, low, high, 0.5, True) == verdict


def test_undecided_exits_5_unless_it_is_allowed(
    subject: Converted, python: Path, tmp_path: Path
) -> None:
    made = subject.bundle(tmp_path / "u.edgebundle", samples=20, gates={"max-drop": 1})
    done = run(made.path, "--no-latency", "--only", "model_int8.tflite", python=python)
    assert (done.returncode, "undecided" in done.stdout) == (5, True), done.stdout
    words = ("--no-latency", "--allow-undecided", "--only", "model_int8.tflite")
    assert run(made.path, *words, python=python).returncode == 0


def outcome(limits: dict[str, float], **changed: Any) -> dict[str, str]:
    """The verdicts on what a made-up run saw."""
    column = {"sqnr_db": 30.0, "agreement": 0.9, "rows": 100, "same": 90}
    host = {"share": 0.1, "most_steps": 3, "most": 0.1, "sqnr_db": 30.0}
    seen = {
        "runtime": {"name": "x", "version": "1", "threads": 0},
        "form": "tflite",
        "placement": {"used": None, "asked": "auto", "why": ""},
        "outputs": {"y": {"host": host, "reference": column, "not_finite": 0}},
        "accuracy": None,
        "latency": {"p50": 0.01, "p90": 0.02, "p99": 0.02, "load": 1.0, "cold": 0.1,
                    "slowed": 1.0, "times": [0.01] * 90 + [0.02] * 10},
        "memory": {"growth": 10 << 20, "model": 1 << 20},
        "heat": {"highest": {}, "throttled": None, "throttled_since_boot": None},
        **changed,
    }  # fmt: skip
    args = run_on_device.parser().parse_args(["x"])
    return {one["check"]: one["verdict"] for one in run_on_device.judge(seen, limits, args)}


@pytest.mark.parametrize(
    ("name", "check", "fine", "bad"),
    [
        ("max-memory", "memory", 11 << 20, 9 << 20),
        ("max-latency", "latency", 11, 9),
        ("max-p99", "latency", 21, 9),
        ("max-steps", "host", 3, 2),
        ("min-host-sqnr", "host", 30, 31),
        ("min-sqnr", "reference", 30, 31),
        ("min-agreement", "reference", 0.8, 0.99),
    ],
)
def test_each_limit_passes_and_fails(name: str, check: str, fine: float, bad: float) -> None:
    assert outcome({})[check] == "seen"
    assert outcome({name: fine})[check] == "passed"
    assert outcome({name: bad})[check] == "failed"


def test_limit_on_what_was_not_seen_never_passes() -> None:
    nothing = {"share": 0.1, "most_steps": None, "most": 0.1, "sqnr_db": 30.0}
    column = {"sqnr_db": 30.0, "agreement": None, "rows": 0, "same": 0}
    outputs = {"y": {"host": nothing, "reference": column, "not_finite": 0}}
    assert outcome({"max-memory": 1}, memory=None)["memory"] == "undecided"
    assert outcome({"max-steps": 9}, outputs=outputs)["host"] == "undecided"
    assert outcome({"min-agreement": 0.1}, outputs=outputs)["reference"] == "undecided"
    assert outcome({"max-drop": 9})["accuracy"] == "failed"


def test_nothing_agreeing_is_no_agreement() -> None:
    column = {"sqnr_db": 30.0, "agreement": 0.0, "rows": 100, "same": 0}
    outputs = {"y": {"reference": column, "not_finite": 0}}
    assert outcome({"min-agreement": 0.5}, outputs=outputs)["reference"] == "failed"


def test_numbers_that_are_none_fail_the_host_check() -> None:
    host = {"share": 0.1, "most_steps": 3, "most": 0.1, "sqnr_db": 30.0}
    assert outcome({}, outputs={"y": {"host": host, "not_finite": 2}})["host"] == "failed"


# What it shows


def test_table_fits_80_columns_of_plain_ascii(bundle: Path, python: Path) -> None:
    done = run(bundle, python=python)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.isascii()
    for name in run_on_device.CHECKS:
        assert f"\n  {name} " in done.stdout


def test_junit_has_a_case_for_each_model_and_check(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    result_of(bundle, tmp_path, "--no-latency", python=python)
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    names = {case.get("name") for case in suite}
    assert names >= {"model_int8.tflite.host", "model_float32.tflite.accuracy"}
    assert suite.get("tests") == str(len(names)) == str(2 * len(run_on_device.CHECKS))


def test_progress_can_be_read_by_a_program(bundle: Path, python: Path) -> None:
    done = run(bundle, "--progress", "json", "--quiet", python=python)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert events[0]["event"] == "start"
    ends = [event for event in events if event["event"] == "samples" and event["done"] == COUNT]
    assert [event["model"] for event in ends] == ["model_float32.tflite", "model_int8.tflite"]
    assert done.stdout == ""


def test_bundle_runs_itself(bundle: Path, python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(python), str(bundle), "--no-latency"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "model_int8.tflite" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_pytest_has_a_test_for_each_check(bundle: Path, python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--edgebundle", bundle],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert "model_int8.tflite::load" in done.stdout, done.stdout + done.stderr
    # This environment has no runtime, and that is what the first of them says.
    assert done.returncode == 1
    assert "no runtime for tflite models is installed" in done.stdout


# Pythons


def test_file_is_ascii_and_parses_from_python_3_6_on() -> None:
    text = RUNNER.read_bytes()
    text.decode("ascii")
    ast.parse(text, feature_version=(3, 6))


@pytest.mark.parametrize("version", ["2.7", "3.6"])
def test_wrong_python_is_told_which_is_right(version: str, bundle: Path) -> None:
    old = an_old_python(version)
    if old is None:
        pytest.skip(f"no Python {version} is here")
    done = subprocess.run([old, RUNNER, bundle], capture_output=True, text=True)
    assert done.returncode == (3 if version == "3.6" else 1)
    assert "needs Python 3.7 or newer" in done.stderr


@pytest.mark.parametrize("version", ["3.7", "3.8", "3.13"])
def test_it_starts_at_once_and_says_that_numpy_is_missing(version: str, bundle: Path) -> None:
    there = an_old_python(version)
    if there is None:
        pytest.skip(f"no Python {version} is here")
    done = run(bundle, python=there, PYTHONNOUSERSITE="1")
    if "numpy can't be imported" in done.stdout:
        assert done.returncode == 3
        assert "python3-numpy" in done.stdout
    else:
        assert "load" in done.stdout


def test_nothing_heavy_is_imported_before_a_runtime(bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(RUNNER), "-h"], capture_output=True, text=True
    )
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "zipfile" in names
    assert not names & {"numpy", "subprocess", "xml", "importlib.metadata", "asyncio"}


# What can be read of a board


def board_files(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """The files of another machine, where the runner reads its own."""
    folders = {str(Path(path).parent) for path in files}
    above = {str(Path(folder).parent): Path(folder).name for folder in folders}
    monkeypatch.setattr(run_on_device, "read_text", lambda path: files.get(path, ""))
    monkeypatch.setattr(run_on_device.os.path, "isdir", lambda path: path in above)
    monkeypatch.setattr(run_on_device.os, "listdir", lambda path: [above[path]])


def test_heat_and_throttling_of_a_raspberry_pi(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = "/sys/class/thermal/thermal_zone0"
    flags = "/sys/devices/platform/soc/soc:firmware/get_throttled"
    files = {f"{zone}/temp": "48312", f"{zone}/type": "cpu-thermal", flags: "50000"}
    board_files(monkeypatch, files)
    heat = run_on_device.Heat()
    files.update({f"{zone}/temp": "81020", flags: "50005"})
    seen = heat.end()
    assert seen["first"] == {"cpu-thermal": 48.312}
    assert seen["highest"] == {"cpu-thermal": 81.02}
    assert seen["throttled"] == ["under-voltage", "throttled"]
    assert seen["throttled_since_boot"] == ["under-voltage", "throttled"]
    words = run_on_device._judge_heat(seen)["words"]
    assert "81.0 C (cpu-thermal); now: under-voltage, throttled" in words
    assert "latency says little" in words


def test_memory_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal:  4096000 kB\nMemFree:  100 kB\nMemAvailable:  3072000 kB",
        "/sys/fs/cgroup/memory.max": str(512 << 20),
        "/sys/fs/cgroup/memory.current": str(500 << 20),
    }
    board_files(monkeypatch, files)
    assert run_on_device.memory_of_machine() == (512 << 20, 12 << 20)
    files["/sys/fs/cgroup/memory.max"] = "max"
    assert run_on_device.memory_of_machine() == (4096000 << 10, 3072000 << 10)


def test_usb_stick_is_found_before_and_after_its_firmware(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "/sys/bus/usb/devices/2-1"
    files = {f"{place}/busnum": "2", f"{place}/devnum": "7"}
    board_files(monkeypatch, files)
    stick = ["/dev/bus/usb/002/007"]
    for ids, found in (("1a6e:089a", stick), ("18d1:9302", stick), ("046d:c52b", [])):
        vendor, _, product = ids.partition(":")
        files.update({f"{place}/idVendor": vendor, f"{place}/idProduct": product})
        assert run_on_device.edgetpus() == found


# What is missing


def test_no_runtime_says_how_to_get_one(bundle: Path) -> None:
    done = run(bundle)
    assert done.returncode == 3
    assert "no runtime for tflite models is installed" in done.stdout
    assert "pip install ai-edge-litert" in done.stdout


@pytest.mark.parametrize(
    ("raised", "hint"),
    [
        ("ImportError('numpy.core.multiarray failed to import')", "numpy<2"),
        ("ImportError('version `GLIBC_2.38` not found')", "built for a newer system"),
        ("AttributeError('_ARRAY_API not found')", "numpy<2"),
        ("ImportError('libstdc++.so.6: cannot open')", "pip install"),
    ],
)
def test_runtime_that_is_there_and_broken_says_why(
    raised: str, hint: str, bundle: Path, python: Path, tmp_path: Path
) -> None:
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text(f"raise {raised}")
    done = run(bundle, "--runtime", "ai_edge_litert", python=python, PYTHONPATH=str(tmp_path))
    words = " ".join(done.stdout.split())
    assert done.returncode == 3, words
    assert "ai_edge_litert" in words and "can't be imported" in words
    assert hint in words


def test_install_line_fits_the_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, bits, wanted in (
        ((3, 8), 63, 'tflite-runtime "numpy<2"'),
        ((3, 11), 63, "ai-edge-litert"),
        ((3, 11), 31, 'tflite-runtime "numpy<2"'),
        ((3, 13), 31, "take such a Python"),
    ):
        monkeypatch.setattr(run_on_device.sys, "version_info", version)
        monkeypatch.setattr(run_on_device.sys, "maxsize", 2**bits - 1)
        line = run_on_device.how_to_install("tflite")
        monkeypatch.undo()
        assert wanted in line


def test_without_processes_of_their_own_it_says_the_same(
    bundle: Path, python: Path, result: dict[str, Any], tmp_path: Path
) -> None:
    """As where a system can't fork."""
    found = result_of(bundle, tmp_path, "--in-process", "--no-latency", python=python)
    for name in ("model_float32.tflite", "model_int8.tflite"):
        assert model_of(found, name)["outputs"] == model_of(result, name)["outputs"]


def test_no_edgetpu_library_says_how_to_get_it(bundle: Path, python: Path) -> None:
    done = run(
        bundle, "--delegate", "edgetpu", python=python, EDGEPIPE_LIBEDGETPU="libnothing.so.1"
    )
    assert done.returncode == 3
    assert "libedgetpu can't be loaded" in done.stdout
    assert "apt install libedgetpu1-std" in done.stdout


def test_delegate_that_is_none_fails_with_its_name(bundle: Path, python: Path) -> None:
    done = run(bundle, "--delegate", "nothing.so", python=python)
    assert done.returncode == 3
    assert "nothing.so can't be used as a delegate" in " ".join(done.stdout.split())


def test_stick_without_permission_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_on_device, "edgetpus", lambda: [os.devnull])
    monkeypatch.setattr(run_on_device.os, "access", lambda path, mode: False)
    words = run_on_device.why_no_edgetpu()
    assert "usermod -aG plugdev" in words
    assert "udev" in words


def test_too_little_memory_is_told_before_loading(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    code = f"""
import runpy, sys
made = runpy.run_path({str(RUNNER)!r})
made["measure"].__globals__["memory_of_machine"] = lambda: (1 << 26, 1 << 20)
sys.exit(made["main"](sys.argv[1:]))
"""
    done = subprocess.run([python, "-c", code, bundle], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "too little memory" in done.stdout
    assert "add swap" in done.stdout


def test_runtime_that_dies_takes_only_its_model_along(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    """A module that kills the process stands where the runtime is looked for."""
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text("")
    (tmp_path / "ai_edge_litert" / "interpreter.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    )
    done = run(bundle, "--out", tmp_path / "r", python=python, PYTHONPATH=str(tmp_path))
    assert done.returncode == 4
    assert "the runtime died (SIGILL)" in done.stdout
    assert "newer processor" in done.stdout
    assert (tmp_path / "r" / "result.json").exists()


def test_model_that_hangs_is_ended(bundle: Path, python: Path, tmp_path: Path) -> None:
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text("import time; time.sleep(600)")
    done = run(bundle, "--timeout", "1", python=python, PYTHONPATH=str(tmp_path))
    assert (done.returncode, "took longer than 1 s" in done.stdout) == (4, True)


def test_unknown_model_lists_those_that_are_there(bundle: Path, python: Path) -> None:
    done = run(bundle, "--only", "other.tflite", python=python)
    assert done.returncode == 2
    assert "model_int8.tflite" in done.stderr


def test_model_that_is_damaged_behind_right_digests_fails(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    """A file that LiteRT refuses, in a bundle that is otherwise whole."""
    import hashlib

    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = "models/model_int8.tflite"
    members[name] = members[name][:200]
    manifest = json.loads(members["manifest.json"])
    digest = hashlib.sha256(members[name]).hexdigest()
    manifest["files"][name] = {"sha256": digest, "size": 200}
    members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(tmp_path / "d.edgebundle", "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    done = run(tmp_path / "d.edgebundle", python=python)
    assert done.returncode == 4, done.stdout
    assert "can't load it" in done.stdout
    assert "model_float32.tflite\n  load       passed" in done.stdout


def test_bundle_from_the_future_names_the_way_out(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f", "w") as archive:
        archive.writestr("manifest.json", json.dumps({"kind": "edgepipe bundle", "schema": 99}))
    done = run(tmp_path / "f")
    assert (done.returncode, "schema 99" in done.stderr) == (2, True)


def test_package_is_listed_for_the_wheel() -> None:
    assert edgepipe.Bundle.__module__ == "edgepipe.bundling.bundle"
