"""Killed runs and many runs at once: the store stays whole, and the work is done once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepipe.store import Store

Build = Callable[[str, str], Path]

pytestmark = pytest.mark.toolchain("edge", "onnx2tf")

MODEL = """
import numpy, onnx
from onnx import TensorProto, helper, numpy_helper
random = numpy.random.default_rng(0)
weights = numpy_helper.from_array(random.normal(size=(64, 64)).astype("float32"), "w")
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])]
graph = helper.make_graph(nodes, "g", [x], [y], [weights])
opset = [helper.make_opsetid("", 13)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "net.onnx")
"""


def start(model: Path, out: Path, store: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgepipe", "convert", str(model), "-o", str(out), "-q"],
        env={**os.environ, "EDGEPIPE_STORE": str(store)},
        start_new_session=True,
    )


def check_killed(model: Path, folder: Path, moments: int, longest: float) -> None:
    """Kill at random moments, each time over what the last one left; then it must finish."""
    choose = random.Random(0)
    for number in range(moments):
        process = start(model, folder / "out", folder / "store")
        time.sleep(choose.uniform(0.05, longest))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if number % 10 == 9:  # Else all the later ones would find everything made.
            with Store(folder / "store") as store:
                for key in store.all_keys()[:3]:
                    store.remove(key)
    assert start(model, folder / "out", folder / "store").wait(120) == 0
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["status"] == "done"
    assert report["routes"][0]["end_to_end"] or report["routes"][0]["steps"][-1]["proof"]["proven"]
    with Store(folder / "store") as store:
        assert store.verify() == []
    time.sleep(1)  # The kernel has ended the workers of killed runs by now.
    listed = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True).stdout
    orphans = [line for line in listed.splitlines() if line.split()[0] == "1"]
    assert not [line for line in orphans if "worker.py" in line]


def test_a_killed_run_is_finished_by_the_next(build: Build, tmp_path: Path) -> None:
    check_killed(build("edge", MODEL) / "net.onnx", tmp_path, moments=5, longest=2.0)


@pytest.mark.stress
def test_fifty_killed_runs_leave_nothing_damaged(build: Build, tmp_path: Path) -> None:
    check_killed(build("edge", MODEL) / "net.onnx", tmp_path, moments=50, longest=4.0)


def test_of_eight_runs_at_once_one_does_the_work(build: Build, tmp_path: Path) -> None:
    model = build("edge", MODEL) / "net.onnx"
    runs = [start(model, tmp_path / f"out{number}", tmp_path / "store") for number in range(8)]
    assert [run.wait(180) for run in runs] == [0] * 8
    made: dict[str, int] = {}
    for number in range(8):
        report = json.loads((tmp_path / f"out{number}" / "report.json").read_text())
        for step in report["routes"][0]["steps"]:
            made.setdefault(step["stage"], 0)
            made[step["stage"]] += step["status"] == "made"
    assert made == {"onnx_clean": 1, "tflite_from_onnx": 1}
