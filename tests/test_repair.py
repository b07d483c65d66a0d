"""Repair of int8 models that lose too much: what helps is kept, told, and can be applied again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_net import SIZE, Net

import edgepipe
from edgepipe.errors import NoRouteLeft
from edgepipe.tflite import loading
from edgepipe.tflite.graph import Op, Tensor

pytestmark = pytest.mark.toolchain("edge")


def unequal(folder: Path) -> Path:
    """What counts is a small difference of large numbers, of which int8 sees next to nothing."""
    net = Net()
    first = net.dense("first", net.input, bias=60)
    second = net.dense("second", net.input, bias=60)
    less = net.op("SUB", "less", first, second, fused_activation_function="NONE")
    return net.save(folder / "float.tflite", net.dense("c", net.dense("b", less)))


def far_out(folder: Path) -> Path:
    """A plain net, whose calibration data has a few values a thousand times the others."""
    net = Net()
    return net.save(folder / "float.tflite", net.dense("b", net.dense("a", net.input)))


def convert(model: Path, data: np.ndarray[Any, Any], **more: Any) -> edgepipe.Result:
    np.savez(model.with_name("data.npz"), x=data.astype(np.float32))
    return edgepipe.convert(
        model,
        precision="int8",
        calibration=model.with_name("data.npz"),
        out=model.with_name("out"),
        **more,
    )


def uniform(count: int = 60) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).uniform(-1, 1, (count, 1, SIZE))


def notes(result: edgepipe.Result) -> list[str]:
    (chosen,) = [one for one in result.report["routes"] if one["status"] == "chosen"]
    return [note for note in chosen["steps"][-1]["notes"] if note.startswith("repair")]


def types(path: Path) -> dict[str, str]:
    graph = loading.load(path).main
    return {tensor.name: tensor.dtype for op in graph.ops for tensor in op.outputs}


def test_without_repair_the_limit_is_missed(tmp_path: Path) -> None:
    with pytest.raises(NoRouteLeft, match="expected at least 25 dB"):
        convert(unequal(tmp_path), uniform(), repair="off", min_sqnr=25)


def test_the_fewest_layers_get_int16_until_the_limit_is_reached(tmp_path: Path) -> None:
    result = convert(unequal(tmp_path), uniform(), min_sqnr=25)
    assert result.sqnr_db is not None and result.sqnr_db >= 25
    made = types(result.model)
    assert made["first"] == made["second"] == "int16"
    assert made["c"] == "int8"
    assert [note for note in notes(result) if "with int16 activations" in note and "kept" in note]


def test_a_beginning_that_int16_is_too_narrow_for_stays_in_float(tmp_path: Path) -> None:
    net = Net()
    first = net.dense("first", net.input, bias=60_000)
    second = net.dense("second", net.input, bias=60_000)
    less = net.op("SUB", "less", first, second, fused_activation_function="NONE")
    last = net.dense("e", net.dense("d", net.dense("c", net.dense("b", less))))
    result = convert(net.save(tmp_path / "float.tflite", last), uniform(), min_sqnr=25)
    made = types(result.model)
    assert made["first"] == made["second"] == "float32"
    assert made["c"] == made["d"] == made["e"] == "int8"
    assert notes(result)[-1].endswith("kept (0 layers of 7 with int16 activations, 3 in float)")


def test_what_integer_inputs_cost_is_told_with_the_remedy(tmp_path: Path) -> None:
    """One number a thousand times the others, and a model that doesn't look at it."""
    data = uniform(200)
    data[..., 0] *= 1000
    net = Net()
    first = net.dense("first", net.input, columns=np.array([0.0] + [1.0] * (SIZE - 1)))
    model = net.save(tmp_path / "float.tflite", net.dense("last", first))
    with pytest.raises(NoRouteLeft, match=r"int8 inputs and outputs .* --io float32"):
        convert(model, data, calibration_method="min-max")
    result = convert(model, data, calibration_method="min-max", io="float32")
    assert result.sqnr_db is not None and result.sqnr_db > 20


def test_a_widened_output_still_has_the_type_that_was_asked_for(tmp_path: Path) -> None:
    net = Net()
    first = net.dense("first", net.input, bias=60)
    second = net.dense("second", net.input, bias=60)
    less = net.op("SUB", "less", first, second, fused_activation_function="NONE")
    result = convert(net.save(tmp_path / "float.tflite", less), uniform(), min_sqnr=25)
    assert types(result.model)["first"] == "int16"
    assert [tensor.dtype for tensor in loading.load(result.model).main.outputs] == ["int8"]


def test_every_try_is_told_with_its_gain(tmp_path: Path) -> None:
    result = convert(unequal(tmp_path), uniform(), min_sqnr=25)
    told = notes(result)
    assert [note.partition(":")[0] for note in told] == [
        "repair, method percentile",
        "repair, method mse",
        "repair, method entropy",
        "repair, cross-layer equalization",
        "repair, bias correction",
        "repair, adaptive rounding",
        "repair, int16 or float for some layers",
    ]
    assert all(" dB in " in note for note in told)


def test_a_method_that_cuts_outliers_is_found(tmp_path: Path) -> None:
    data = uniform(400)
    data[40::90, 0, 0] *= 1000
    result = convert(far_out(tmp_path), data, min_sqnr=0, repair="always", held_out=0.5)
    assert any("method" in note and ", kept" in note for note in notes(result))


def test_channels_of_unlike_ranges_are_equalized(tmp_path: Path) -> None:
    """The second layer undoes what the first one stretches; int8 has one scale between them."""
    net = Net()
    gain = np.geomspace(1, 2000, SIZE)
    wide = net.dense("wide", net.dense("a", net.input), gain)
    model = net.save(tmp_path / "float.tflite", net.dense("c", wide, columns=1 / gain))
    result = convert(model, uniform(400), min_sqnr=25)
    assert [note for note in notes(result) if "equalization" in note and ", kept" in note]
    assert "equalize = true" in (result.folder / "recipe.toml").read_text()
    assert set(types(result.model).values()) == {"int8"}


def joined(folder: Path) -> Path:
    """A dense layer on parts of ranges 1 : 1 : 1,000, of which it weighs the small ones more."""
    net = Net()
    ranges = (1, 1000, 1)
    parts = [net.dense(f"part{n}", net.input, gain) for n, gain in enumerate(ranges)]
    joint = net.op(
        "CONCATENATION", "joint", *parts, size=3 * SIZE, axis=1, fused_activation_function="NONE"
    )
    weights = net.random.standard_normal((SIZE, 3 * SIZE)) / np.repeat(ranges, SIZE)
    constants = [
        Tensor.constant("weights", weights.astype(np.float32)),
        Tensor.constant("bias", net.random.standard_normal(SIZE).astype(np.float32)),
    ]
    dense = net.op("FULLY_CONNECTED", "d", joint, *constants, fused_activation_function="RELU")
    return net.save(folder / "float.tflite", dense)


def test_a_concatenation_of_unlike_ranges_is_split(tmp_path: Path) -> None:
    """Parts of like ranges stay together; the sum gets the activation."""
    with pytest.raises(NoRouteLeft, match="expected at least 25 dB"):
        convert(joined(tmp_path), uniform(), repair="off", min_sqnr=25)
    result = convert(joined(tmp_path), uniform(), min_sqnr=25)
    assert result.sqnr_db is not None and result.sqnr_db >= 25
    assert [note for note in notes(result) if "split concat" in note and ", kept" in note]
    assert "split_concats = true" in (result.folder / "recipe.toml").read_text()
    assert set(types(result.model).values()) == {"int8"}
    kinds = [op.name for op in loading.load(result.model).main.ops]
    assert kinds.count("CONCATENATION") == 1
    assert kinds.count("FULLY_CONNECTED") == 5
    assert kinds.count("ADD") == 1


def test_parts_of_like_ranges_are_left_joined(tmp_path: Path) -> None:
    net = Net()
    parts = [net.dense("a", net.input), net.dense("b", net.input)]
    joint = net.op(
        "CONCATENATION", "joint", *parts, size=2 * SIZE, axis=1, fused_activation_function="NONE"
    )
    weights = net.random.standard_normal((SIZE, 2 * SIZE)).astype(np.float32)
    dense = net.op(
        "FULLY_CONNECTED",
        "d",
        joint,
        Tensor.constant("weights", weights),
        Tensor.constant("bias", np.zeros(SIZE, np.float32)),
        fused_activation_function="NONE",
    )
    result = convert(net.save(tmp_path / "f.tflite", dense), uniform(), repair="always", min_sqnr=0)
    assert not [note for note in notes(result) if "split" in note]


def test_a_mean_error_of_the_weights_is_taken_back(tmp_path: Path) -> None:
    """One scale for all weights of a layer, and inputs far from zero: each channel is shifted."""
    net = Net()
    gain = np.geomspace(1, 300, SIZE)
    first = net.dense("first", net.input, bias=20)
    model = net.save(tmp_path / "float.tflite", net.dense("second", first, gain))
    more = {"options": {"tflite_quantize": {"weights": "per-tensor"}}, "min_sqnr": 0}
    plain = convert(model, uniform(), repair="off", **more).sqnr_db
    more["options"] = {"tflite_quantize": {"weights": "per-tensor", "bias_correction": True}}
    corrected = convert(model, uniform(), repair="off", **more).sqnr_db
    assert plain is not None and corrected is not None
    assert corrected > plain + 1


def test_layers_that_share_a_bias_are_corrected_and_equalized(tmp_path: Path) -> None:
    net = Net()
    first = net.dense("first", net.input, bias=20)
    last = net.dense("third", net.dense("second", first, np.geomspace(1, 300, SIZE)))
    dense = [op for op in net.graph.ops if op.name == "FULLY_CONNECTED"]
    for op in dense:
        op.inputs[1:] = [dense[0].inputs[1], dense[0].inputs[2]]
    model = net.save(tmp_path / "float.tflite", last)
    steps = {"tflite_quantize": {"bias_correction": True, "equalize": True}}
    assert convert(model, uniform(), repair="off", options=steps).sqnr_db


def test_a_good_model_stays_all_int8(tmp_path: Path) -> None:
    result = convert(far_out(tmp_path), uniform())
    assert not [note for note in notes(result) if "int16" in note]
    assert set(types(result.model).values()) == {"int8"}


def test_the_recipe_makes_the_repaired_model_again_without_trying(tmp_path: Path) -> None:
    first = convert(unequal(tmp_path), uniform(), min_sqnr=25)
    recipe = first.folder / "recipe.toml"
    assert "int16_layers" in recipe.read_text()
    kept = recipe.rename(tmp_path / "kept.toml")
    again = convert(unequal(tmp_path), uniform(), recipe=kept, repair="off")
    assert again.model.read_bytes() == first.model.read_bytes()


def test_without_time_nothing_is_tried(tmp_path: Path) -> None:
    with pytest.raises(NoRouteLeft, match="expected at least 25 dB"):
        convert(unequal(tmp_path), uniform(), min_sqnr=25, repair_budget=0.0)


def test_convolutions_are_split_by_what_their_parts_reach(tmp_path: Path) -> None:
    """The parts of a group don't stand side by side, and each needs its own columns."""
    net = Net()
    image = net.graph.inputs[0] = net.input = Tensor("x", (1, 4, 4, 2))
    window = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "NONE"}

    def convolve(name: str, data: Tensor, out: int, gain: Any) -> Tensor:
        weights = net.random.standard_normal((out, 3, 3, data.shape[-1])) * gain
        made = Tensor(name, (1, 4, 4, out))
        constants = [
            Tensor.constant(f"{name}_weights", weights.astype(np.float32)),
            Tensor.constant(f"{name}_bias", np.zeros(out, np.float32)),
        ]
        net.graph.ops.append(Op.make("CONV_2D", [data, *constants], [made], **window))
        return made

    gains = (1, 1000, 1)
    parts = [convolve(f"part{place}", image, 3, gain) for place, gain in enumerate(gains)]
    joint = Tensor("joint", (1, 4, 4, 9))
    net.graph.ops.append(Op.make("CONCATENATION", parts, [joint], axis=-1))
    model = net.save(tmp_path / "float.tflite", convolve("last", joint, 4, 1 / np.repeat(gains, 3)))
    data = np.random.default_rng(1).uniform(-1, 1, (60, 4, 4, 2))
    result = convert(model, data, min_sqnr=25)
    assert [note for note in notes(result) if "split concat" in note and ", kept" in note]
    assert set(types(result.model).values()) == {"int8"}
