"""Limits about a chip, in a validation that has no chip: they follow the compiler or preflight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import int8_models
import numpy as np
import pytest

import edgepipe
from edgepipe.errors import LimitError
from edgepipe.validation import on_chip
from edgepipe.validation.earlier import Earlier
from edgepipe.validation.evidence import Verdict

pytestmark = pytest.mark.toolchain("edge")


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """A convolution and what the Edge TPU has no operator for; its compiler is not asked."""
    shape = (1, int8_models.SIDE, int8_models.SIDE, int8_models.CHANNELS)
    net = int8_models.net(("ABS", shape, (), {}))
    model = int8_models.saved(net, tmp_path / "net.tflite")
    edgepipe.convert(model, target="edgetpu", no_compile=True, out=tmp_path / "out")
    save_data(tmp_path)
    return tmp_path / "out"


def save_data(folder: Path) -> None:
    shape = (20, int8_models.SIDE, int8_models.SIDE, 3)
    x = np.random.default_rng(0).integers(-100, 100, shape).astype(np.int8)
    np.savez(folder / "data.npz", x=x)


def validated(folder: Path, **arguments: Any) -> Any:
    data = folder.parent / "data.npz"
    return edgepipe.validate(folder, data=data, latency=False, **arguments).validation


def test_mapping_and_streaming_are_those_foretold_for_the_chip(converted: Path) -> None:
    found = validated(converted, gates={"max-streamed-bytes": "1M"})
    assert found.placement is not None
    assert found.placement.device == "Edge TPU, as foretold"
    report = edgepipe.preflight(converted / "model_int8.tflite", target="edgetpu")
    assert (found.placement.on_device, found.placement.ops) == (report.mapped, 2)
    assert found.candidate["streamed_bytes"] == report.memory.streamed_most
    assert [gate.verdict for gate in found.gates] == [Verdict.PASSED]


def test_less_on_the_chip_than_asked_fails(converted: Path) -> None:
    with pytest.raises(LimitError, match="1 of 2 operators on Edge TPU, as foretold"):
        validated(converted, gates={"min-mapped": "100%"})


def report(**facts: Any) -> Earlier:
    outputs = [
        {"path": "model_int8.tflite", "size": 10},
        {"path": "model_edgetpu.tflite", "size": 20},
    ]
    return Earlier(Path(), {"outputs": outputs, "routes": [], **facts}, outputs[-1])


COMPILED = {
    "compiled": True,
    "models": [{"mapped": {"CONV_2D": 3}, "unmapped": {"MEAN": 1}, "streamed_bytes": 7}],
}


def test_the_compilers_own_mapping_is_taken_where_there_is_one() -> None:
    found = on_chip.of(report(edgetpu=COMPILED))
    assert found is not None
    assert found.placement.device == "Edge TPU, as compiled"
    assert (found.placement.on_device, found.placement.ops, found.streamed) == (3, 4, 7)
    assert found.size == 20
    assert [row["op"] for row in found.placement.rows] == ["CONV_2D"] * 3 + ["MEAN"]


def test_of_another_file_of_the_folder_the_chip_says_nothing() -> None:
    earlier = report(edgetpu=COMPILED)
    assert on_chip.of(Earlier(Path(), earlier.report, earlier.report["outputs"][0])) is None
    assert on_chip.of(report()) is None
    assert on_chip.of(None) is None


@pytest.mark.toolchain("vela")
def test_velas_memory_is_the_arena_of_an_ethos_u(tmp_path: Path) -> None:
    model = int8_models.saved(int8_models.net(int8_models.NORMALIZED), tmp_path / "net.tflite")
    edgepipe.convert(model, target="ethos-u55-128", out=tmp_path / "out")
    save_data(tmp_path)
    found = validated(tmp_path / "out")
    assert found.placement.device == "ethos-u55-128, as compiled"
    assert (found.placement.on_device, found.placement.ops) == (1, 2)
    assert found.memory.process is None and found.memory.arena > 0
    compiled = (tmp_path / "out" / "model_vela.tflite").stat().st_size
    assert found.candidate["size"] == compiled
    assert compiled != (tmp_path / "out" / "model_int8.tflite").stat().st_size
