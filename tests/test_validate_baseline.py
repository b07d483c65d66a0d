"""Baselines of a validation: the float model in its own framework, in ONNX Runtime, with XLA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from validated_nets import WEIGHTS, dense, labelled

import edgepipe
from edgepipe import gpu
from edgepipe.artifact import Artifact, Format
from edgepipe.errors import BrokenOutput, OptionError, ToolMissing
from edgepipe.session import Session
from edgepipe.validation.subject import Subject
from edgepipe.worker_environment import GPU, environment

pytestmark = pytest.mark.toolchain("keras", "torch", "edge")

Build = Callable[[str, str], Path]

KERAS = f"""
import keras, numpy
x = keras.Input((6,), name="x")
layer = keras.layers.Dense(3, name="scores")
model = keras.Model(x, layer(x))
layer.set_weights([numpy.array({WEIGHTS.T.tolist()}, "float32"), numpy.zeros(3, "float32")])
model.save("net.keras")
"""
TORCH = f"""
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor({WEIGHTS.tolist()}))
    def forward(self, x):
        return x @ self.weight.T
torch.export.save(torch.export.export(Net(), (torch.zeros(1, 6),)), "net.pt2")
"""


@pytest.fixture
def models(build: Build, tmp_path: Path) -> dict[str, Path]:
    return {
        "keras": build("keras", KERAS) / "net.keras",
        "torch": build("torch", TORCH) / "net.pt2",
        "tflite": dense(tmp_path, "other.tflite", 0.2),
        "data": labelled(tmp_path, 40),
    }


def validated(models: dict[str, Path], source: str, folder: Path, **said: Any) -> dict[str, Any]:
    return edgepipe.validate(
        models["tflite"],
        against=models[source],
        data=models["data"],
        out=folder / "out",
        **said,
    ).report


@pytest.mark.parametrize(
    ("source", "baseline", "runtime"),
    [
        ("keras", "auto", "Keras"),
        ("keras", "keras", "Keras"),
        ("keras", "onnxruntime", "ONNX Runtime"),
        ("keras", "tensorflow-xla", "Keras"),
        ("torch", "auto", "PyTorch"),
        ("torch", "onnxruntime", "ONNX Runtime"),
    ],
)
def test_every_baseline_computes_the_same(
    models: dict[str, Path], tmp_path: Path, source: str, baseline: str, runtime: str
) -> None:
    report = validated(models, source, tmp_path, baseline=baseline)
    top = next(one for one in report["scores"] if one["metric"] == "top1")
    assert top["baseline"]["value"] == pytest.approx(90.0)
    assert report["baseline"]["runner"] == runtime
    assert ("XLA" in report["baseline"]["label"]) == (baseline == "tensorflow-xla")


def test_baseline_of_another_framework_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="can't run a pt2 model") as error:
        validated(models, "torch", tmp_path, baseline="tensorflow-xla")
    assert "torch" in error.value.hint and "onnxruntime" in error.value.hint
    with pytest.raises(OptionError, match="no float model"):
        edgepipe.validate(models["tflite"], data=models["data"], baseline="onnxruntime")


def test_xla_really_compiles(
    session: Session, build: Build, artifact: Callable[..., Any], tmp_path: Path
) -> None:
    """What XLA can't compile runs without it: the setting reaches TensorFlow."""
    code = """
import tensorflow as tf
class Net(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])
    def __call__(self, x):
        return {"y": tf.cast(tf.strings.length(tf.strings.as_string(x)), tf.float32)}
net = Net()
tf.saved_model.save(net, "saved", signatures={"serving_default": net.__call__})
"""
    from edgepipe.validation import outputs

    subject = Subject.of(artifact(build("keras", code) / "saved"))
    outputs.write(tmp_path / "feeds.npz", [{"x": np.zeros((1, 4), np.float32)}])
    samples = {"feeds": str(tmp_path / "feeds.npz"), "positions": [0], "labels": [None]}
    entry = "edgepipe.validation.chunk_jobs:run"
    arguments = {"samples": samples, "path": str(tmp_path / "outputs.npz")}
    assert session.call_with(subject, entry, session.log("xla"), **arguments).value["samples"] == 1
    compiled = Subject.of(subject.artifact, settings={"xla": True})
    with pytest.raises(BrokenOutput, match="TensorFlow can't run the model"):
        session.call_with(compiled, entry, session.log("xla"), **arguments)


# GPUs


def test_gpu_that_is_not_there_is_one_clear_error(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "present", lambda: ())
    with pytest.raises(ToolMissing, match="this machine has none") as error:
        validated(models, "keras", tmp_path, baseline_device="gpu")
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("source", "said", "framework"),
    [
        ("keras", {}, "TensorFlow"),
        ("torch", {}, "PyTorch"),
        ("torch", {"baseline": "onnxruntime"}, "ONNX Runtime"),
    ],
)
def test_framework_that_has_no_use_for_the_gpu_says_so(
    models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    said: dict[str, str],
    framework: str,
) -> None:
    if gpu.present():
        pytest.skip("there is a GPU here, which the frameworks may use")
    monkeypatch.setattr(gpu, "present", lambda: ("a GPU",))
    with pytest.raises(ToolMissing, match=f"{framework} .*can't use the GPU") as error:
        validated(models, source, tmp_path, baseline_device="gpu", **said)
    assert "EDGEPIPE_PYTHON_" in error.value.hint


def test_only_workers_for_the_gpu_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: Session
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv(GPU, "1")
    plain, with_gpu = environment(tmp_path, True), environment(tmp_path, True, gpu=True)
    assert plain["CUDA_VISIBLE_DEVICES"] == "" and GPU not in plain
    assert with_gpu["CUDA_VISIBLE_DEVICES"] == "3" and GPU in with_gpu
    artifact = Artifact(tmp_path, Format.ONNX, "")
    groups = {
        session.interpreter_of(Subject.of(artifact, device=device)).group
        for device in ("", "GPU", "gpu", "cuda:0")
    }
    assert groups == {"edge", "edge, gpu"}, "GPU in capitals is OpenVINO's"


def test_gpu_that_is_there_and_not_in_use_is_said(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "present", lambda: ("Tesla T4",))
    report = validated(models, "keras", tmp_path)
    assert any("Tesla T4" in note and "--baseline-device gpu" in note for note in report["notes"])


@pytest.mark.parametrize(
    ("source", "said"),
    [("keras", {}), ("torch", {}), ("torch", {"baseline": "onnxruntime"})],
)
def test_baseline_runs_on_the_gpu(
    models: dict[str, Path], tmp_path: Path, source: str, said: dict[str, str]
) -> None:
    if not gpu.present():
        pytest.skip("no NVIDIA GPU here: neither nvidia-smi nor /dev tells of one")
    try:
        report = validated(models, source, tmp_path, baseline_device="gpu", **said)
    except ToolMissing as error:
        pytest.skip(f"{error.message}; {error.hint}")
    assert report["baseline"]["device"] == "gpu"
    top = next(one for one in report["scores"] if one["metric"] == "top1")
    assert top["baseline"]["value"] == pytest.approx(90.0)
