"""`convert --target edgetpu`: what is rewritten on the way, and what can't be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflite_models import constant, model_of

import edgepipe
from edgepipe import catalog, precision_options
from edgepipe.artifact import Format
from edgepipe.errors import OptionError
from edgepipe.plan import routes_between
from edgepipe.request import Request
from edgepipe.tflite import loading, saving
from edgepipe.tflite.graph import Model, Op, Tensor


def network() -> Model:
    """A convolution, HARD_SWISH, and a dense layer on four rows, in floats."""
    random = np.random.default_rng(3)
    x, a, b = Tensor("x", (1, 2, 2, 3)), Tensor("a", (1, 2, 2, 8)), Tensor("b", (1, 2, 2, 8))
    rows, y = Tensor("rows", (4, 8)), Tensor("y", (4, 5))
    window = constant("w", np.float32(random.standard_normal((8, 1, 1, 3))))
    dense = constant("d", np.float32(random.standard_normal((5, 8))))
    ops = [
        Op.make("CONV_2D", [x, window, constant("c", np.zeros(8, np.float32))], [a],
                padding="SAME", stride_w=1, stride_h=1),
        Op.make("HARD_SWISH", [a], [b]),
        Op.make("RESHAPE", [b, constant("s", [4, 8])], [rows]),
        Op.make("FULLY_CONNECTED", [rows, dense, constant("e", np.zeros(5, np.float32))], [y]),
    ]  # fmt: skip
    return model_of(ops, [x], [y])


def convert(folder: Path, **said: Any) -> Any:
    saving.save(network(), folder / "model.tflite")
    images = np.random.default_rng(4).uniform(-1, 1, (40, 2, 2, 3)).astype(np.float32)
    np.savez(folder / "data.npz", x=images)
    said = {"target": "edgetpu", "no_compile": True, "calibration": folder / "data.npz", **said}
    return edgepipe.convert(folder / "model.tflite", out=folder / "out", **said)


@pytest.mark.toolchain("edge")
@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_route_ends_in_a_model_that_is_foretold_as_mapped_in_full(tmp_path: Path, io: str) -> None:
    result = convert(tmp_path, io=io, require_full_mapping=True)
    steps = {step["stage"]: step for step in result.report["routes"][0]["steps"]}
    assert list(steps) == ["tflite_quantize", "edgetpu_legalise"]
    notes = " ".join(steps["tflite_quantize"]["notes"])
    assert "hard_swish: HARD_SWISH became ADD" in notes and "dense_rows: dense layers" in notes
    foretold = steps["edgetpu_legalise"]["summary"]["foretold"]
    assert foretold["cpu"] == 0 and {row["op"] for row in foretold["table"]} >= {"CONV_2D", "MUL"}
    assert result.report["edgetpu"]["foretold"]["cpu"] == 0
    assert 20 < result.sqnr_db < 100, "that of the float model, not of one int8 model to another"
    graph = loading.load(result.model).main
    assert {one.dtype for one in (*graph.inputs, *graph.outputs)} == {io}
    recipe = (tmp_path / "out" / "recipe.toml").read_text()
    assert 'chip = "edgetpu"' in recipe


@pytest.mark.toolchain("edge")
def test_another_target_is_left_alone(tmp_path: Path) -> None:
    result = convert(tmp_path, target="tflite", precision="int8", no_compile=False)
    assert "HARD_SWISH" in [op.name for op in loading.load(result.model).main.ops]
    assert [step["stage"] for step in result.report["routes"][0]["steps"]] == ["tflite_quantize"]


def test_only_what_edgepipe_quantized_is_rewritten() -> None:
    def stages(source: Format, goal: Format) -> list[str]:
        return [stage.name for stage in routes_between(source, goal)[0].stages]

    assert stages(Format.TFLITE, Format.EDGETPU)[-2:] == ["edgetpu_legalise", "edgetpu_compile"]
    assert "edgetpu_legalise" not in stages(Format.TFLITE, Format.TFLITE_QUANTIZED)
    assert stages(Format.TFLITE_QUANTIZED, Format.EDGETPU) == ["edgetpu_compile"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"float_layers": ("a",)}, "float_layers"),
        ({"int16_layers": ("a",)}, "int16_layers"),
        ({"io": "float32"}, "io=float32"),
        ({"scheme": "int16x8"}, "scheme=int16x8"),
    ],
)
def test_wider_layers_and_ends_are_refused(options: dict[str, Any], words: str) -> None:
    stage = catalog.stage("tflite_quantize")
    said = stage.options(**{"chip": "edgetpu", **options})
    with pytest.raises(OptionError, match=words):
        stage.check(None, said)  # type: ignore[arg-type]


def test_dense_weights_have_one_scale_for_the_chip() -> None:
    kind: Any = catalog.stage("tflite_quantize").options
    assert kind(chip="edgetpu").weights_of_dense == "per-tensor"
    assert kind(chip="edgetpu", dense_weights="per-channel").weights_of_dense == "per-channel"
    assert kind().weights_of_dense == "per-channel"


def test_operators_without_an_integer_form_may_run_on_the_cpu() -> None:
    kind: Any = catalog.stage("tflite_quantize").options
    nothing: Any = None
    catalog.stage("tflite_quantize").check(nothing, kind(chip="edgetpu", allow_float=True))
    request = Request(
        model=Path("m.tflite"), target="edgetpu", precision="int8", allow_float=True,
        calibration="random",
    )  # fmt: skip
    options = precision_options.applied(request).options
    assert options["tflite_quantize"]["allow_float"] is True
    assert options["edgetpu_compile"]["allow_float"] is True
    assert options["tflite_quantize"]["chip"] == "edgetpu"
