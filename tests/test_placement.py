"""Which device each operator ran on, in the real runtimes, and what a gate makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_models

from edgepipe import tensors
from edgepipe.artifact import Artifact
from edgepipe.samples import SampleSource
from edgepipe.session import Session
from edgepipe.tflite import saving
from edgepipe.validation import placement
from edgepipe.validation.evidence import Placement, Verdict
from edgepipe.validation.latency import Side
from edgepipe.validation.subject import Subject

Where = Callable[[Path], dict[str, Any]]


@pytest.fixture
def where(session: Session, artifact: Callable[..., Artifact], tmp_path: Path) -> Where:
    """What a worker tells after it loaded and ran the model."""

    def ask(path: Path) -> dict[str, Any]:
        subject = Subject.of(artifact(path))
        feeds = tmp_path / "feeds.npz"
        tensors.write(feeds, SampleSource().make(subject.artifact.ends())[1:2])
        with Side(session, subject, feeds, "candidate") as side:
            side.start()
            found: dict[str, Any] = side.call("placement")
        return found

    return ask


def mixed(path: Path) -> Path:
    """A dense layer, a remainder, which XNNPACK doesn't compute, and a dense layer."""
    m = tflite_models.Maker(1, 4)
    square = np.eye(4, dtype=np.float32)
    zero = np.zeros(4, np.float32)
    one = m.op("FULLY_CONNECTED", m.x, square, zero)
    two = m.op("FLOOR_MOD", one, np.full((1, 4), 3, np.float32))
    m.op("FULLY_CONNECTED", two, square, zero)
    saving.save(m.model(), path)
    return path


@pytest.mark.toolchain("edge")
def test_operators_of_the_delegate_are_told_from_the_others(where: Where, tmp_path: Path) -> None:
    found = where(mixed(tmp_path / "mixed.tflite"))
    assert [(row["op"], row["device"]) for row in found["rows"]] == [
        ("FULLY_CONNECTED", "CPU, XNNPACK"),
        ("FLOOR_MOD", "CPU, LiteRT's own kernels"),
        ("FULLY_CONNECTED", "CPU, XNNPACK"),
    ]
    seen = placement.placed("", found["rows"])
    assert seen is not None
    assert (seen.device, seen.on_device, seen.ops) == ("CPU, XNNPACK", 2, 3)
    assert placement.words(seen) == (
        "2 of 3 operators on CPU, XNNPACK; 1 on CPU, LiteRT's own kernels"
    )


@pytest.mark.toolchain("edge")
def test_arena_holds_what_is_alive_at_once(where: Where, tmp_path: Path) -> None:
    m = tflite_models.Maker(1, 64, 64, 8)
    m.op("ABS", m.x)
    m.op("NEG", m.ops[-1].outputs[0])
    m.op("ABS", m.ops[-1].outputs[0])
    saving.save(m.model(), tmp_path / "row.tflite")
    one = 64 * 64 * 8 * 4
    arena = where(tmp_path / "row.tflite")["arena"]
    # The input stays, and of what follows two are alive at once: three places, and some aligning.
    assert 2 * one <= arena <= 4 * one + 4096


@pytest.mark.toolchain("edge", "keras")
def test_onnx_runtime_tells_its_provider_of_each_node(
    where: Where, build: Any, artifact: Any, run_stage: Any
) -> None:
    made = run_stage("onnx_from_keras", artifact(build("keras", KERAS) / "model.h5"))
    rows = where(made.path)["rows"]
    assert rows
    assert {row["device"] for row in rows} == {"CPU"}
    assert all(row["seconds"] >= 0 for row in rows)


@pytest.mark.toolchain("keras")
def test_tensorflow_tells_the_device_of_its_outputs(where: Where, build: Any) -> None:
    found = where(build("keras", KERAS) / "model.h5")
    seen = placement.placed("", found["rows"])
    assert seen is not None
    assert placement.words(seen) == "its outputs come from CPU:0"
    assert found["arena"] is None


KERAS = """
import keras
layers = [keras.layers.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)]
keras.Sequential(layers).save("model.h5")
"""


@pytest.mark.toolchain("torch")
def test_pytorch_tells_where_its_weights_are(where: Where, build: Any) -> None:
    path = build("torch", TORCH) / "model.pt2"
    rows = where(path)["rows"]
    assert [row["device"] for row in rows] == ["cpu", "cpu"]


TORCH = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).eval()
torch.export.save(torch.export.export(net, (torch.zeros(1, 4),)), "model.pt2")
"""


@pytest.mark.toolchain("openvino", "edge")
def test_openvino_tells_the_device_of_each_layer(
    where: Where, artifact: Any, run_stage: Any, tmp_path: Path
) -> None:
    made = run_stage("openvino_from_tflite", artifact(mixed(tmp_path / "mixed.tflite")))
    rows = where(made.path)["rows"]
    assert rows
    assert {row["device"] for row in rows} == {"CPU"}


def rows_of(**devices: int) -> list[dict[str, Any]]:
    return [
        {"op": "CONV_2D", "name": f"{device}{number}", "device": device.replace("_", " ")}
        for device, count in devices.items()
        for number in range(count)
    ]


def seen_of(asked: str, **devices: int) -> Placement:
    found = placement.placed(asked, rows_of(**devices))
    assert found is not None
    return found


@pytest.mark.parametrize("asked", ["GPU", "gpu", "GPU.1", "cuda", "cuda:0"])
def test_a_silent_fall_back_to_the_cpu_fails(asked: str) -> None:
    seen = seen_of(asked, CPU=5)
    assert seen.on_device == 0
    gate = placement.device_gate(seen)
    assert gate is not None
    assert gate.verdict is Verdict.FAILED
    assert gate.words == f"{asked} was asked for, and none of 5 operators ran there: 5 on CPU"
    assert placement.mapped_gate(seen, 0.0).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("asked", "device"),
    [("GPU", "GPU.0"), ("gpu", "CUDA"), ("cuda", "cuda:0"), ("GPU", "GPU:0"), ("cpu", "CPU")],
)
def test_the_same_device_goes_by_several_names(asked: str, device: str) -> None:
    seen = placement.placed(asked, [{"op": "CONV_2D", "name": "", "device": device}])
    assert seen is not None
    assert seen.fell_back == "" and seen.on_device == 1
    assert placement.device_gate(seen) is None


def test_what_was_left_to_the_runtime_is_no_fall_back() -> None:
    for asked in ("", "AUTO", "HETERO:GPU,CPU"):
        assert seen_of(asked, CPU=5).fell_back == ""


def test_operators_that_a_chip_left_count_against_the_share() -> None:
    seen = seen_of("usb:0", Edge_TPU=3, CPU=1)
    assert (seen.on_device, seen.ops, seen.fell_back) == (3, 4, "")
    assert placement.mapped_gate(seen, 0.7).verdict is Verdict.PASSED
    failed = placement.mapped_gate(seen, 0.8)
    assert failed.verdict is Verdict.FAILED
    assert failed.words.endswith("1 on CPU: 75.0%, less than 80%")


def test_a_compiled_file_asks_for_its_chip_by_itself() -> None:
    seen = seen_of("", Edge_TPU=1, CPU=3)
    assert (seen.device, seen.on_device, seen.ops) == ("Edge TPU", 1, 4)
    assert placement.words(seen) == "1 of 4 operators on Edge TPU; 3 on CPU"


def test_a_runtime_that_tells_nothing_leaves_the_gate_undecided() -> None:
    assert placement.placed("", []) is None
    assert placement.mapped_gate(None, 0.5).verdict is Verdict.UNDECIDED
