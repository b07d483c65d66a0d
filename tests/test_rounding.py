"""Weights rounded for what their layer gives: by the numbers, and in files that LiteRT runs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_net import SIZE, Net

import edgepipe
from edgepipe.tflite import loading
from edgepipe.tflite.graph import Op, Tensor

least_squares: Any = importlib.import_module("edgepipe.quantization.least_squares")
linear_layers: Any = importlib.import_module("edgepipe.quantization.linear_layers")


def alike(count: int, readings: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Rows whose numbers go together, as the channels of a picture do."""
    random = np.random.default_rng(seed)
    few = random.normal(size=(count, 3))
    return few @ random.normal(size=(3, readings)) + 0.1 * random.normal(size=(count, readings))


def form_of(read: Any, weights: Any) -> Any:
    form = least_squares.Form(1, len(weights), read.shape[1])
    form.add(read[None], (read @ weights.T)[None])
    return form


def error(read: Any, weights: Any, integers: Any, scales: Any) -> float:
    return float(np.mean((read @ (weights - integers * scales).T) ** 2))


@pytest.mark.parametrize("readings", [5, 40, 200])
def test_the_result_errs_far_less_than_with_each_weight_at_its_nearest(readings: int) -> None:
    read = alike(2000, readings)
    weights = np.random.default_rng(1).normal(size=(8, readings))
    scales = np.full((1, 8, 1), 0.5)
    integers = least_squares.rounded(*form_of(read, weights).means(), weights[None], scales)
    nearest = error(read, weights, np.rint(weights / 0.5), 0.5)
    assert error(read, weights, integers[0], 0.5) < 0.7 * nearest
    assert np.array_equal(integers, np.rint(integers)) and np.abs(integers).max() <= 127


def test_no_other_integer_would_be_better_for_one_weight_alone() -> None:
    read = alike(500, 12)
    weights = np.random.default_rng(1).normal(size=(3, 12))
    squares, products = form_of(read, weights).means()
    hold = least_squares.DAMPING * np.trace(squares[0]) / 12
    held = np.vstack([read / np.sqrt(len(read)), np.sqrt(hold) * np.eye(12)])
    integers = least_squares.rounded(squares, products, weights[None], np.full((1, 3, 1), 0.3))[0]

    def errors(given: Any) -> Any:
        return np.sum((held @ (weights - 0.3 * given).T) ** 2, 0)

    for place in range(12):
        for step in (-1, 1):
            moved = integers.copy()
            moved[:, place] += step
            assert (errors(moved) >= errors(integers) - 1e-9).all()


def test_what_is_never_read_keeps_its_weight() -> None:
    read = alike(200, 6)
    read[:, 2] = 0
    weights = np.random.default_rng(1).normal(size=(4, 6))
    scales = np.full((1, 4, 1), 0.25)
    integers = least_squares.rounded(*form_of(read, weights).means(), weights[None], scales)[0]
    assert np.array_equal(integers[:, 2], np.rint(weights[:, 2] / 0.25))


def test_errors_of_earlier_layers_are_made_good() -> None:
    """The layer reads a tenth less than the float one did."""
    read, weights = alike(500, 6), np.random.default_rng(1).normal(size=(4, 6))
    form = least_squares.Form(1, 4, 6)
    form.add(0.9 * read[None], (read @ weights.T)[None])
    integers = least_squares.rounded(*form.means(), weights[None], np.full((1, 4, 1), 0.01))[0]
    made = 0.9 * read @ (0.01 * integers).T
    assert np.mean((made - read @ weights.T) ** 2) < 0.2 * np.mean((0.1 * read @ weights.T) ** 2)


def test_the_bias_takes_the_mean_and_the_error_counts_it() -> None:
    read, weights = alike(300, 6) + 5, np.random.default_rng(1).normal(size=(4, 6))
    form = form_of(read, weights)
    other = weights + 0.1
    bias = form.bias(other[None])
    assert np.allclose(np.mean(read @ other.T + bias[0], 0), np.mean(read @ weights.T, 0))
    left = np.mean((read @ other.T + bias[0] - read @ weights.T) ** 2, 0)
    nothing = form.error(weights[None], np.zeros((1, 4)))[0]
    assert np.allclose(form.error(other[None], bias)[0] - nothing, left)


WINDOWS = [
    ("CONV_2D", "SAME", 1, 1),
    ("CONV_2D", "VALID", 2, 1),
    ("CONV_2D", "SAME", 2, 1),
    ("CONV_2D", "SAME", 1, 2),
    ("DEPTHWISE_CONV_2D", "SAME", 1, 1),
    ("DEPTHWISE_CONV_2D", "VALID", 2, 1),
    ("DEPTHWISE_CONV_2D", "SAME", 2, 1),
]


def window(kind: str, padding: str, stride: int, dilation: int) -> tuple[Op, Tensor]:
    """One convolution of 5 x 6 pixels of 3 channels; the depthwise one makes two of each."""
    random = np.random.default_rng(0)
    image = Tensor("x", (1, 5, 6, 3))
    shape = (1, 3, 2, 6) if kind.startswith("DEPTH") else (4, 3, 2, 3)
    reach = [(size - 1) * dilation + 1 for size in (3, 2)]
    size = [
        -(-whole // stride) if padding == "SAME" else (whole - far) // stride + 1
        for whole, far in zip((5, 6), reach, strict=True)
    ]
    options: dict[str, Any] = {
        "padding": padding, "stride_h": stride, "stride_w": stride,
        "dilation_h_factor": dilation, "dilation_w_factor": dilation,
        "fused_activation_function": "NONE",
    }  # fmt: skip
    if kind.startswith("DEPTH"):
        options["depth_multiplier"] = 2
    weights = Tensor.constant("w", random.normal(size=shape).astype(np.float32))
    bias = Tensor.constant("b", np.zeros(max(shape[0], 6 * (shape[0] == 1)), np.float32))
    made = Tensor("y", (1, *size, len(bias.array())))
    return Op.make(kind, [image, weights, bias], [made], **options), image


LITERT = """
import json, numpy as np
from ai_edge_litert.interpreter import Interpreter
for number in range({count}):
    one = Interpreter(f"{folder}/{{number}}.tflite")
    one.allocate_tensors()
    one.set_tensor(one.get_input_details()[0]["index"], np.load("{folder}/x.npy"))
    one.invoke()
    np.save(f"{{number}}.npy", one.get_tensor(one.get_output_details()[0]["index"]))
"""


@pytest.mark.toolchain("edge")
def test_rows_times_weights_are_what_litert_computes(build: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(2).normal(size=(1, 5, 6, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    wanted = []
    for number, what in enumerate(WINDOWS):
        op, image = window(*what)
        net = Net()
        net.graph.inputs, net.input, net.graph.ops = [image], image, [op]
        net.save(tmp_path / f"{number}.tflite", op.outputs[0])
        linear = linear_layers.Linear.of(op)
        rows = linear.rows(x, 10**6, np.random.default_rng(0))
        matrix = linear.matrix(linear.weights.array().astype(np.float64))
        assert np.array_equal(linear.shaped(matrix), linear.weights.array())
        made = rows @ matrix.transpose(0, 2, 1)
        wanted.append(made[0] if len(made) == 1 else made[:, :, 0].T)
    folder = build("edge", LITERT.format(folder=tmp_path, count=len(WINDOWS)))
    for number, (what, rows) in enumerate(zip(WINDOWS, wanted, strict=True)):
        given = np.load(folder / f"{number}.npy").reshape(rows.shape)
        assert np.allclose(given, rows, atol=1e-5), what


def convert(model: Path, data: np.ndarray[Any, Any], **more: Any) -> edgepipe.Result:
    np.savez(model.with_name("data.npz"), x=data.astype(np.float32))
    return edgepipe.convert(
        model,
        precision="int8",
        calibration=model.with_name("data.npz"),
        out=model.with_name("out"),
        min_sqnr=0,
        **more,
    )


def layered(folder: Path) -> Path:
    """One scale for weights of unlike size, as for a target whose dense layers need it so."""
    net = Net()
    gain = np.geomspace(1, 40, SIZE)
    first = net.dense("first", net.input, gain)
    return net.save(folder / "float.tflite", net.dense("last", first, columns=1 / gain))


PER_TENSOR = {"weights": "per-tensor"}


@pytest.mark.toolchain("edge")
def test_a_file_of_rounded_weights_is_nearer_and_differs_in_nothing_else(tmp_path: Path) -> None:
    data = alike(200, SIZE)[:, None]
    plain = convert(
        layered(tmp_path), data, repair="off", options={"tflite_quantize": dict(PER_TENSOR)}
    )
    before = {op.outputs[0].name: op for op in loading.load(plain.model).main.ops}
    asked = {"tflite_quantize": PER_TENSOR | {"adaptive_rounding": True}}
    better = convert(layered(tmp_path), data, repair="off", options=asked)
    assert plain.sqnr_db is not None and better.sqnr_db is not None
    assert better.sqnr_db > plain.sqnr_db + 3
    for op in loading.load(better.model).main.ops:
        old = before[op.outputs[0].name]
        assert op.name == old.name
        for one, other in zip([*op.inputs, *op.outputs], [*old.inputs, *old.outputs], strict=True):
            assert one is not None and other is not None
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert one.quantization == other.quantization


@pytest.mark.toolchain("edge")
def test_a_repair_rounds_anew_and_its_recipe_does_it_again(tmp_path: Path) -> None:
    data = alike(200, SIZE)[:, None]
    options = {"tflite_quantize": PER_TENSOR | {"method": "min-max"}}
    first = convert(layered(tmp_path), data, repair="always", options=options)
    (chosen,) = [one for one in first.report["routes"] if one["status"] == "chosen"]
    notes = [note for note in chosen["steps"][-1]["notes"] if "adaptive rounding" in note]
    assert len(notes) == 1 and ", kept" in notes[0]
    content, recipe = first.model.read_bytes(), first.folder / "recipe.toml"
    assert "adaptive_rounding = true" in recipe.read_text()
    kept = recipe.rename(tmp_path / "kept.toml")
    again = convert(layered(tmp_path), data, recipe=kept, repair="off")
    assert again.model.read_bytes() == content


@pytest.mark.toolchain("edge")
def test_weights_that_two_layers_share_stay_as_they_are(tmp_path: Path) -> None:
    net = Net()
    first = net.dense("first", net.input)
    shared = net.graph.ops[0].inputs[1:]
    again = net.op(
        "FULLY_CONNECTED", "again", first, *(one for one in shared if one is not None),
        fused_activation_function="NONE",
    )  # fmt: skip
    model = net.save(tmp_path / "float.tflite", net.dense("last", again))
    data = alike(200, SIZE)[:, None]
    asked = {"tflite_quantize": {"adaptive_rounding": True}}
    before = weights_of(convert(model, data, repair="off").model)
    after = weights_of(convert(model, data, repair="off", options=asked).model)
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["last"]


def weights_of(model: Path) -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for op in loading.load(model).main.operators("FULLY_CONNECTED"):
        linear = linear_layers.Linear.of(op)
        found[op.outputs[0].name] = linear.weights.array().copy()
    return found
