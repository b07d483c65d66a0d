"""Preflight for OpenVINO: kernels by operator, what it can't read, what falls back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import edgepipe
from edgepipe.cli.main import edgepipe as command
from edgepipe.errors import DeviceMissing, LimitError, OptionError, UnsupportedModel
from edgepipe.targets.openvino import preflight
from edgepipe.targets.openvino.preflight import Preflight, Verdict

pytestmark = pytest.mark.toolchain("edge", "openvino")

Build = Callable[[str, str], Path]

MODELS = """
import onnx
from onnx import TensorProto as T, helper as h
def value(name): return h.make_tensor_value_info(name, T.FLOAT, [1, 8])
def save(path, nodes):
    graph = h.make_graph(nodes, "g", [value("x")], [value("y")])
    sets = [h.make_opsetid("", 17), h.make_opsetid("made.up", 1)]
    onnx.save(h.make_model(graph, opset_imports=sets, ir_version=8), path)
n = h.make_node
save("slow.onnx", [n("Relu", ["x"], ["a"]), n("Atanh", ["a"], ["b"]), n("Tanh", ["b"], ["y"])])
save("strange.onnx", [n("Frobnicate", ["x"], ["a"], domain="made.up"), n("Tanh", ["a"], ["b"]),
     n("Frobnicate", ["b"], ["c"], domain="made.up"), n("Det", ["c"], ["y"])])
save("failing.onnx", [n("Relu", ["x"], ["a"]), n("LpPool", ["a"], ["y"])])
"""


@pytest.fixture(scope="module")
def models(build: Build) -> Path:
    return build("edge", MODELS)


@pytest.mark.parametrize("device", ["", "AUTO", "HETERO:CPU"])
def test_every_operator_has_its_kernel(models: Path, device: str) -> None:
    found = edgepipe.preflight(models / "slow.onnx", target="openvino", device=device)
    assert (found.mapped, found.total, found.full) == (3, 3, True)
    assert found.runs_on == ("CPU",)
    by_op = {one.op: one for one in found.verdicts}
    assert by_op["Tanh"].status == preflight.RUNS
    assert by_op["Tanh"].device == "CPU"
    assert by_op["Tanh"].kernel


def test_reference_code_is_said(models: Path) -> None:
    found = edgepipe.preflight(models / "slow.onnx", target="openvino")
    (slow,) = [one for one in found.verdicts if one.status == preflight.SLOW]
    assert (slow.op, slow.mapped) == ("Atanh", True)
    assert "reference code" in found.fell_back
    shown = CliRunner().invoke(
        command, ["preflight", str(models / "slow.onnx"), "--target", "openvino"]
    )
    assert shown.exit_code == 0, shown.output
    assert "3 of 3 ops have a kernel on CPU" in shown.output
    assert "note: 1 ops run in reference code" in shown.output


def test_what_openvino_cannot_read_is_named_with_its_reason(models: Path) -> None:
    path = models / "strange.onnx"
    found = edgepipe.preflight(path, target="openvino")
    assert (found.mapped, found.total) == (1, 4)
    assert [one.op for one in found.verdicts].count("Frobnicate") == 2
    assert {one.op for one in found.verdicts} == {"Frobnicate", "Det"}
    assert all("no rule" in one.reason for one in found.verdicts)
    failing = edgepipe.preflight(models / "failing.onnx", target="openvino")
    assert [one.op for one in failing.verdicts] == ["LpPool"]
    assert "fails on it" in failing.verdicts[0].reason
    told = ["preflight", str(path), "--target", "openvino"]
    shown = CliRunner().invoke(command, told)
    assert "1 of 4 ops can be read" in shown.output
    assert json.loads(CliRunner().invoke(command, [*told, "--json"]).output)["unmapped"] == 3
    with pytest.raises(LimitError, match="3 of 4 ops have no kernel"):
        found.check()


def test_an_ir_is_taken_as_folder_and_as_file(models: Path, tmp_path: Path) -> None:
    result = edgepipe.convert(models / "slow.onnx", target="openvino", out=tmp_path)
    for path in (result.model, result.model / "model.xml"):
        shown = CliRunner().invoke(
            command, ["preflight", str(path), "--target", "openvino", "--require-full-mapping"]
        )
        assert shown.exit_code == 0, shown.output
        assert "Atanh" in shown.output


def test_a_device_that_is_not_there_and_models_of_other_kinds(models: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceMissing, match="there is no such CPU"):
        edgepipe.preflight(models / "slow.onnx", target="openvino", device="CPU.3")
    with pytest.raises(OptionError, match="--device is for OpenVINO"):
        edgepipe.preflight(models / "slow.onnx", target="ethos-u55-128", device="CPU")
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    with pytest.raises(UnsupportedModel, match="preflight takes its IR, ONNX"):
        edgepipe.preflight(saved, target="openvino")


def verdict(**told: Any) -> Verdict:
    return preflight._verdict(0, {"op": "MatMul", "name": "m", "quantized": False, **told}, "GPU")


def test_a_quantized_product_in_float_and_a_lacking_kernel_have_a_remedy() -> None:
    floating = verdict(device="CPU", kernel="brgemm_f32", precision="f32", quantized=True)
    assert floating.status == preflight.FLOAT
    assert "float_types=MatMul" in floating.fix
    assert verdict(device="CPU", kernel="brgemm_i8", precision="u8", quantized=True).fix == ""
    assert verdict(op="Atanh", device="CPU", kernel="ref_any_f32").status == preflight.SLOW
    assert verdict(op="Concat", device="CPU", kernel="ref_any_f32").status == preflight.RUNS
    lacking = verdict(device="")
    assert (lacking.status, lacking.mapped) == (preflight.MISSING, False)
    assert "HETERO:GPU,CPU" in lacking.fix


def test_a_fall_back_is_said() -> None:
    ops = (
        Verdict(0, "Relu", "a", preflight.RUNS, "GPU"),
        Verdict(1, "Atanh", "b", preflight.RUNS, "CPU"),
    )
    shared = Preflight("2026.4", "HETERO:GPU,CPU", ops, ("GPU", "CPU"))
    assert shared.fell_back == "1 ops on CPU, 1 ops on GPU"
    auto = Preflight("2026.4", "AUTO", ops[1:], ("CPU",), {"GPU": {"Atanh": 1}, "CPU": {}})
    assert auto.fell_back == "GPU lacks Atanh: AUTO falls back to CPU"
