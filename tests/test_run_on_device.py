"""The runner as it is on a board: old and new Pythons, and what it says of what is missing."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from junit_schema import suites
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
    placement = {"asked": "xnnpack", "used": False, "taken": 0, "ops": 4, "left": {}}
    found = run_on_device._judge_placement(placement, "tflite", None)
    assert found["verdict"] == "failed"
    assert "took none of the 4 ops" in found["words"]


@pytest.mark.parametrize("delegate", ["none", "auto"])
def test_outputs_and_inner_tensors_are_written_to_be_compared(
    delegate: str, bundle: Path, python: Path, tmp_path: Path
) -> None:
    words = ("--keep-tensors", "--delegate", delegate, "--no-latency", "--limit", "3")
    result = result_of(bundle, tmp_path, *words, python=python)
    found = model_of(result)
    assert found["placement"]["used"] is (delegate == "auto")
    with np.load(tmp_path / found["outputs_file"]) as file:
        assert json.loads(str(file["names"])) == list(found["outputs"])
        assert (file["o0"].dtype, len(file["o0"])) == (np.int8, 3)
        answer = file["o0"][0]
    with np.load(tmp_path / found["tensors"]["file"]) as file:
        index = json.loads(str(file["index"]))
        arrays = [file[f"t{place}"] for place in range(len(index))]
    kinds = [row["op"] for row in index]
    assert kinds.count("FULLY_CONNECTED") == 2
    assert "DELEGATE" not in kinds
    assert all(
        row["step"] for row, array in zip(index, arrays, strict=True) if array.dtype == np.int8
    )
    (last,) = [array for row, array in zip(index, arrays, strict=True) if row["op"] == "SOFTMAX"]
    assert np.abs(last.astype(int) - answer).max() <= 1  # Computed op by op, and not left empty.


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


def test_without_processes_of_their_own_it_says_the_same(
    bundle: Path, python: Path, result: dict[str, Any], tmp_path: Path
) -> None:
    """As where a system can't fork."""
    found = result_of(bundle, tmp_path, "--in-process", "--no-latency", python=python)
    for name in ("model_float32.tflite", "model_int8.tflite"):
        assert model_of(found, name)["outputs"] == model_of(result, name)["outputs"]


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
    found = suites((tmp_path / "junit.xml").read_text())
    assert [suite.get("name") for suite in found] == ["model_float32.tflite", "model_int8.tflite"]
    for suite in found:
        names = [str(case.get("name")).rpartition(".")[2] for case in suite.findall("testcase")]
        assert names == list(run_on_device.CHECKS)


def test_junit_of_a_failure_keeps_to_the_schema_too(bundle: Path, tmp_path: Path) -> None:
    done = run(bundle, "--junit", tmp_path / "j.xml")
    assert done.returncode == 3
    (_, last) = suites((tmp_path / "j.xml").read_text())
    (case,) = last.findall("testcase")
    assert "pip install" in case[0].attrib["message"]


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
