"""Whether int8 is faster than float in OpenVINO: measured, told with its interval, switched off."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import edgepipe
from edgepipe.cli.main import edgepipe as command
from edgepipe.report import quantized
from edgepipe.targets.openvino import speed
from edgepipe.validation.evidence import Interval

Build = Callable[[str, str], Path]

MODEL = """
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
rng = np.random.default_rng(0)
def value(name, shape): return h.make_tensor_value_info(name, T.FLOAT, shape)
w = nh.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
nodes = [h.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
         h.make_node("Relu", ["c"], ["y"])]
graph = h.make_graph(nodes, "g", [value("x", [1, 3, 8, 8])], [value("y", [1, 4, 8, 8])], [w])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), "m.onnx")
np.savez("data.npz", x=rng.normal(size=(30, 3, 8, 8)).astype(np.float32))
"""


@pytest.fixture(scope="module")
def folder(build: Build) -> Path:
    return build("edge", MODEL)


@pytest.mark.toolchain("edge", "openvino")
def test_int8_is_measured_beside_float_once(
    folder: Path, tmp_path: Path, fresh_store: Path
) -> None:
    arguments: dict[str, Any] = {
        "target": "openvino",
        "precision": "int8",
        "calibration": str(folder / "data.npz"),
        "out": tmp_path / "out",
    }
    result = edgepipe.convert(folder / "m.onnx", **arguments)
    report = result.report
    told = quantized.chosen_speed(report)
    assert told is not None
    page = result.report_path.with_suffix(".html").read_text()
    assert told["words"] in html.unescape(page)
    assert told["words"] in quantized.summary(report)
    if told["ratio"] is None:  # Too busy a machine: said, and asked again the next time.
        assert "not timed" in told["words"]
        return
    assert told["int8_ms"] > 0
    assert told["float32_ms"] > 0
    assert told["device"] == "CPU"
    assert told["ratio"]["low"] <= told["ratio"]["value"] <= told["ratio"]["high"]
    assert f"{told['ratio']['value']:.2f} times float32's" in told["words"]
    # The same two files on the same machine: nothing is measured again.
    if speed.narrow(Interval(**told["ratio"])):
        again = edgepipe.convert(folder / "m.onnx", **arguments).report
        assert quantized.chosen_speed(again) == told


@pytest.mark.toolchain("edge", "openvino")
@pytest.mark.parametrize(
    "more",
    [
        ("--precision", "int8", "--no-timing"),
        ("--precision", "float16"),
        ("--precision", "float32"),
    ],
)
def test_nothing_is_timed_where_it_was_switched_off_or_is_no_int8(
    folder: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    words = ["convert", str(folder / "m.onnx"), "--target", "openvino", "-o", str(tmp_path)]
    data = ["--calibration", str(folder / "data.npz")] if "int8" in more else []
    shown = CliRunner().invoke(command, [*words, *data, *more, "--json"])
    assert shown.exit_code == 0, shown.output
    assert quantized.chosen_speed(json.loads(shown.stdout)) is None


@pytest.mark.parametrize(
    ("ratio", "slower"),
    [
        (Interval(1.2, 1.1, 1.3), True),
        (Interval(0.7, 0.6, 0.8), False),
        (Interval(1.0, 0.9, 1.1), None),
    ],
)
def test_the_whole_interval_decides(ratio: Interval, slower: bool | None) -> None:
    assert speed.slower(ratio) is slower
    told = speed.words(ratio, "CPU", {})
    assert ("--precision float16" in told) is (slower is not False)


def test_a_wide_interval_recommends_nothing() -> None:
    told = speed.words(Interval(1.0, 0.7, 1.4), "CPU", {})
    assert "can't be told" in told
    assert "float16" not in told


def test_what_computes_in_float_is_named_with_the_better_choice() -> None:
    told = speed.words(Interval(1.25, 1.2, 1.3), "GPU", {"GroupConvolution": 17})
    assert (
        "int8 is slower than float on GPU: its time is 1.25 times float32's (1.20 to 1.30)" in told
    )
    assert "float_types=GroupConvolution" in told
