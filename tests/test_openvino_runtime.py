"""OpenVINO at run time: devices, settings, the cache, throughput and what each layer takes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import edgepipe
from edgepipe.artifact import Artifact
from edgepipe.cli.main import edgepipe as command
from edgepipe.errors import DeviceMissing, OptionError, UnknownName, UnsupportedModel
from edgepipe.runners import openvino_cache, openvino_devices
from edgepipe.runners.openvino_settings import OpenvinoSettings
from edgepipe.several_targets import requests
from edgepipe.validation.subject import Subject

pytestmark = pytest.mark.toolchain("edge", "openvino")

Build = Callable[[str, str], Path]
MakeArtifact = Callable[..., Artifact]

MODEL = """
import numpy as np, openvino as ov
from openvino import opset13 as op
rng = np.random.default_rng(0)
x = op.parameter([1, 3, 8, 8], np.float32, name="x")
w = op.constant(rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
c = op.convolution(x, w, [1, 1], [1, 1], [1, 1], [1, 1])
c.set_friendly_name("conv")
y = op.softmax(op.relu(c), 1)
y.set_friendly_name("y")
y.output(0).set_names({"y"})
x.output(0).set_names({"x"})
ov.save_model(ov.Model([y], [x], "m"), "model.xml", compress_to_fp16=False)
"""


@pytest.fixture(scope="module")
def model(build: Build) -> Path:
    return build("openvino", MODEL) / "model.xml"


@pytest.fixture
def no_gpu() -> None:
    """Only a machine without one can show what is said then."""
    if any(Path("/dev/dri").glob("renderD*")) or any(Path("/dev/accel").glob("accel*")):
        pytest.skip("this machine shows a GPU or an NPU; the test is for those without")


def test_the_cpu_is_listed_with_what_it_computes_in() -> None:
    found = edgepipe.openvino_devices()
    cpu = found.devices[0]
    assert cpu.name == "CPU"
    assert cpu.available
    assert "FP32" in cpu.capabilities
    assert cpu.properties["PERFORMANCE_HINT"] == "LATENCY"
    assert {one.name.partition(".")[0] for one in found.devices} == {"CPU", "GPU", "NPU"}
    json.dumps(found.to_json(), allow_nan=False)


def test_a_device_that_is_not_there_has_a_reason_and_a_remedy(no_gpu: None) -> None:
    absent = {one.name: one for one in edgepipe.openvino_devices().devices if not one.available}
    assert set(absent) == {"GPU", "NPU"}
    assert "/dev/dri" in absent["GPU"].why
    assert "/dev/accel" in absent["NPU"].why
    assert all("driver" in one.help for one in absent.values())
    shown = CliRunner().invoke(command, ["openvino", "devices"])
    assert shown.exit_code == 0, shown.output
    assert "GPU    not here:" in shown.output


@pytest.mark.parametrize("device", ["GPU", "NPU", "gpu.1", "HETERO:GPU,CPU", "AUTO:NPU"])
def test_running_on_a_device_that_is_not_there_says_what_is(
    model: Path, no_gpu: None, device: str
) -> None:
    with pytest.raises(DeviceMissing, match=r"has no (GPU|NPU)\S* here: .*It has CPU \(") as caught:
        edgepipe.openvino_profile(model, device=device)
    assert caught.value.exit_code == 3
    assert "driver" in caught.value.hint


def test_a_typo_in_a_device_is_told_before_anything_runs(model: Path) -> None:
    with pytest.raises(UnknownName, match="'CUP'") as caught:
        edgepipe.openvino_profile(model, device="cup")
    assert "CPU" in caught.value.hint
    with pytest.raises(UnknownName, match="'FPGA'"):
        openvino_devices.check_name("HETERO:FPGA,CPU")
    with pytest.raises(UnknownName, match="HETERO"):
        openvino_devices.check_name("HETERO")
    with pytest.raises(DeviceMissing, match="there is no such CPU"):
        edgepipe.openvino_profile(model, device="CPU.7")


@pytest.mark.parametrize("device", ["", "AUTO", "HETERO:CPU"])
def test_every_layer_has_its_kernel_and_its_device(model: Path, device: str) -> None:
    found = edgepipe.openvino_profile(model, device=device, repeats=3, seconds=0.1)
    assert found.runs_on == ("CPU",)
    assert len(found.times) == 3
    assert found.throughput > 0
    layers = {one["name"]: one for one in found.layers}
    conv = layers["conv"]
    assert conv["op"] == "Convolution"
    assert conv["exec"].endswith("f32")
    assert conv["device"] == "CPU"
    assert conv["executed"]
    relu = next(one for one in found.layers if one["op"] == "Relu")
    assert (relu["executed"], relu["into"]) == (False, "conv")
    assert sum(row[2] for row in found.by_type()) == sum(one["executed"] for one in found.layers)


def test_settings_reach_the_device(model: Path) -> None:
    settings = {"hint": "throughput", "streams": "1", "precision": "bf16"}
    found = edgepipe.openvino_profile(model, settings=settings, threads=1, repeats=1, seconds=0.1)
    assert found.facts["performance_hint"] == "THROUGHPUT"
    assert found.facts["num_streams"] == 1
    assert found.facts["inference_num_threads"] == 1
    assert found.facts["inference_precision_hint"] in ("bf16", "f32")  # Where it has none.
    exact = edgepipe.openvino_profile(model, repeats=1, seconds=0.1)
    assert exact.facts["inference_precision_hint"] == "f32"


def test_properties_are_those_that_a_device_knows() -> None:
    settings = OpenvinoSettings(streams=2, counters=True)
    cpu = settings.properties("CPU", 3)
    assert cpu == {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 3,
        "NUM_STREAMS": 2,
        "PERF_COUNT": True,
    }
    assert "INFERENCE_NUM_THREADS" not in settings.properties("GPU.1", 3)
    # An NPU has no float32, and refuses the word.
    assert "INFERENCE_PRECISION_HINT" not in settings.properties("HETERO:NPU,CPU", 0)


def test_settings_that_mean_nothing_are_refused(model: Path) -> None:
    with pytest.raises(UnknownName, match="'speed'"):
        edgepipe.openvino_profile(model, settings={"hint": "speed"})
    with pytest.raises(UnknownName, match="'turbo'"):
        edgepipe.openvino_profile(model, settings={"turbo": True})
    with pytest.raises(OptionError, match="streams takes a number from 0"):
        edgepipe.openvino_profile(model, settings={"streams": -1})


def test_a_subject_opens_its_runner_with_device_and_settings(
    model: Path, artifact: MakeArtifact
) -> None:
    subject = Subject.of(artifact(model), device="AUTO", settings={"hint": "throughput"})
    runner = Subject.from_json(subject.to_json()).open()
    assert runner.device == "AUTO"
    assert runner.settings.hint == "throughput"
    other = Subject(subject.artifact, "edgepipe.runners.tflite:TfliteRunner", settings={"a": 1})
    with pytest.raises(UnknownName, match="option of TfliteRunner 'a'"):
        other.open()


def test_a_kept_model_is_loaded_from_edgepipes_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toolchain: Callable[[str], Path]
) -> None:
    monkeypatch.setenv("EDGEPIPE_PYTHON_OPENVINO", str(toolchain("openvino")))
    monkeypatch.setenv("EDGEPIPE_CACHE", str(tmp_path))
    once: dict[str, Any] = {"settings": {"cache": True}, "repeats": 1, "seconds": 0.1}
    edgepipe.openvino_profile(model, **once)
    assert list((tmp_path / "openvino").glob("*.blob"))
    assert edgepipe.openvino_profile(model, **once).from_cache
    assert not edgepipe.openvino_profile(model, repeats=1, seconds=0.1).from_cache


def test_the_cache_lets_go_of_what_was_not_used_for_longest(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old", "oldest")):
        path = tmp_path / f"{name}.blob"
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    openvino_cache.sweep(tmp_path, 250)
    assert {path.stem for path in tmp_path.iterdir()} == {"new", "old"}


def test_the_command_shows_kernels_and_prints_json(model: Path) -> None:
    words = ["openvino", "profile", str(model), "--repeats", "2", "--seconds", "0.1"]
    shown = CliRunner().invoke(command, words)
    assert shown.exit_code == 0, shown.output
    assert "Convolution" in shown.output
    assert "latency: median" in shown.output
    every = CliRunner().invoke(command, [*words, "--layers"])
    assert "(in conv)" in every.output
    told = json.loads(CliRunner().invoke(command, [*words, "--json", "--cache"]).output)
    assert told["settings"]["cache"] is True
    assert told["layers"][0]["device"] == "CPU"


def test_a_conversion_is_proven_on_the_device_that_was_named(build: Build, tmp_path: Path) -> None:
    given = build("edge", ONNX) / "m.onnx"
    result = edgepipe.convert(given, target="openvino", device="auto", out=tmp_path)
    (step,) = [one for one in result.report["routes"][0]["steps"] if "openvino" in one["stage"]]
    assert "run on OpenVINO's AUTO" in step["notes"]
    plain = edgepipe.convert(given, target="openvino", out=tmp_path)
    (step,) = [one for one in plain.report["routes"][0]["steps"] if "openvino" in one["stage"]]
    assert not any("run on" in note for note in step["notes"])


def test_a_conversion_for_a_device_that_is_not_there_ends_before_it_begins(
    build: Build, tmp_path: Path, no_gpu: None
) -> None:
    given = build("edge", ONNX) / "m.onnx"
    with pytest.raises(DeviceMissing, match="has no GPU here"):
        edgepipe.convert(given, target="openvino", device="GPU", out=tmp_path / "out")
    assert not (tmp_path / "out" / "openvino").exists()
    with pytest.raises(UnknownName, match="'USB'"):
        edgepipe.convert(given, target="openvino", device="usb", out=tmp_path / "out")


def test_each_target_takes_its_own_kind_of_device() -> None:
    for device, taker in (("NPU", "openvino"), ("usb:0", "edgetpu")):
        asked = requests(
            "m.h5",
            ("openvino", "edgetpu"),
            {"precision": "int8", "calibration": "random", "device": device},
        )
        for request, notes in asked:
            mine = request.target == taker
            assert request.device == (device if mine else "")
            assert any("--device is not for" in note for note in notes) is not mine
        aim = asked[0][0].options["openvino_quantize"].get("device")
        assert aim == ("NPU" if device == "NPU" else None)


def test_only_an_ir_can_be_profiled(build: Build) -> None:
    folder = build("edge", ONNX)
    with pytest.raises(UnsupportedModel, match="an OpenVINO model was expected") as caught:
        edgepipe.openvino_profile(folder / "m.onnx")
    assert "--target openvino" in caught.value.hint


ONNX = """
import onnx
from onnx import TensorProto as T, helper as h
value = h.make_tensor_value_info
graph = h.make_graph([h.make_node("Relu", ["x"], ["y"])], "g",
                     [value("x", T.FLOAT, [1, 4])], [value("y", T.FLOAT, [1, 4])])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), "m.onnx")
"""
