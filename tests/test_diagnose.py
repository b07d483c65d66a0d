"""Diagnosis of int8 models: who costs how much, and each cause found where it is built in."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from dense_net import SIZE, Net
from numpy.typing import NDArray

import edgepipe
from edgepipe.errors import OptionError, UnsupportedModel
from edgepipe.tflite.graph import Tensor

pytestmark = pytest.mark.toolchain("edge")

Array = NDArray[Any]


Diagnose = Callable[..., dict[str, Any]]


@pytest.fixture
def diagnose(tmp_path: Path) -> Diagnose:
    """The report on a net that was calibrated on noise in [-1, 1]; samples of it, or scaled."""

    def run(net: Net, *outputs: Tensor, scale: float = 1.0, **arguments: Any) -> dict[str, Any]:
        model = net.save(tmp_path / "float.tflite", *outputs)
        int8 = quantize(model, tmp_path)
        np.savez(tmp_path / "samples.npz", x=scale * noise(8, 2))
        return edgepipe.diagnose(
            model, int8=int8, samples=tmp_path / "samples.npz", **arguments
        ).report

    return run


def quantize(model: Path, folder: Path) -> Path:
    np.savez(folder / "calibration.npz", x=noise(40, 1))
    return edgepipe.convert(
        model,
        precision="int8",
        calibration=folder / "calibration.npz",
        min_sqnr=0,
        repair="off",
        out=folder / "int8",
    ).model


def noise(count: int, seed: int) -> Array:
    """The ends are always there, so that few samples show the range."""
    values = np.random.default_rng(seed).uniform(-1, 1, (count, 1, SIZE)).astype(np.float32)
    values[..., 0], values[..., 1] = 1, -1
    return values


def layer(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in report["layers"] if one["layer"] == name]
    return dict(found)


def causes(report: dict[str, Any], name: str) -> set[str]:
    return {cause["name"] for cause in layer(report, name)["causes"]}


def test_shares_add_up_and_foretell_the_error_of_the_whole(diagnose: Diagnose) -> None:
    net = Net()
    a = net.dense("a", net.input)
    b = net.dense("b", a)
    report = diagnose(net, net.dense("c", b))
    assert [one["layer"] for one in report["layers"]] != []
    assert sum(one["share"] for one in report["layers"]) == pytest.approx(1, abs=1e-3)
    noise_of = sum(10 ** (-one["final_sqnr_db"]["output_0"] / 10) for one in report["layers"])
    whole = report["outputs"]["output_0"]["sqnr_db"]
    assert -10 * np.log10(noise_of) == pytest.approx(whole, abs=4)
    assert whole > 25


def test_a_layer_with_outlier_channels_costs_the_most_and_is_named(diagnose: Diagnose) -> None:
    net = Net()
    gain = np.ones(SIZE)
    gain[3] = 60
    wide = net.dense("wide", net.dense("a", net.input), gain)
    report = diagnose(net, net.dense("c", wide, columns=1 / gain))
    assert "outlier channels" in causes(report, "wide")
    assert report["layers"][0]["layer"] == "wide"
    assert "equalization" in str(layer(report, "wide")["causes"])


def test_joined_parts_of_unlike_ranges_are_named(diagnose: Diagnose) -> None:
    net = Net()
    boxes, scores = net.dense("boxes", net.input, 300), net.dense("scores", net.input)
    joined = net.op("CONCATENATION", "joined", boxes, scores, size=2 * SIZE, axis=1)
    report = diagnose(net, joined)
    assert "one scale for unlike ranges" in causes(report, "joined")


def test_a_wide_softmax_input_is_named(diagnose: Diagnose) -> None:
    net = Net()
    report = diagnose(net, net.op("SOFTMAX", "y", net.dense("logits", net.input, 30), beta=1.0))
    assert "wide softmax input" in causes(report, "y")


def test_a_small_difference_of_large_numbers_is_named(diagnose: Diagnose) -> None:
    net = Net()
    a, b = net.dense("a", net.input, bias=100), net.dense("b", net.input, bias=100)
    report = diagnose(net, net.dense("c", net.op("SUB", "less", a, b)))
    assert "a small difference of large numbers" in causes(report, "less")


def test_samples_of_another_scale_are_a_matter_of_preprocessing(diagnose: Diagnose) -> None:
    net = Net()
    report = diagnose(net, net.dense("a", net.input), scale=255)
    (cause,) = report["causes"]
    assert cause["name"] == "preprocessing doesn't match"
    assert "lie outside" in cause["words"]
    report = diagnose(net, net.graph.outputs[0], scale=0.01)
    assert "fill only" in report["causes"][0]["words"]


def test_a_model_that_was_rewritten_first_is_compared_in_that_form(diagnose: Diagnose) -> None:
    """A division by a constant becomes a multiplication before the model is quantized."""
    net = Net()
    divisor = Tensor.constant("divisor", np.full((1, SIZE), 4, np.float32))
    less = net.op("DIV", "less", net.dense("a", net.input), divisor)
    report = diagnose(net, net.dense("b", less))
    assert all(one["own_sqnr_db"] > 25 for one in report["layers"])
    assert "b" in {one["layer"] for one in report["layers"]}


def test_a_row_far_smaller_than_the_others_is_named() -> None:
    facts: Any = importlib.import_module("edgepipe.quantization.layer_facts")
    seen = facts.Activation()
    rows = np.ones((1, 10, 4), np.float32)
    rows[0, 0] = 0.02
    seen.add(rows, (-1, 1))
    assert seen.row_spread == pytest.approx(50)


def test_a_model_in_order_has_nothing_to_say(diagnose: Diagnose) -> None:
    net = Net()
    report = diagnose(net, net.dense("b", net.dense("a", net.input)))
    assert report["causes"] == []
    assert [one["causes"] for one in report["layers"]] == [[], []]


def test_without_time_errors_are_not_followed_and_it_says_so(diagnose: Diagnose) -> None:
    net = Net()
    report = diagnose(net, net.dense("a", net.input), seconds=0)
    assert report["followed"] == 0
    assert [one["share"] for one in report["layers"]] == [None]
    assert layer(report, "a")["own_sqnr_db"] > 20


def test_files_for_people_and_for_model_explorer(diagnose: Diagnose, tmp_path: Path) -> None:
    net = Net()
    report = diagnose(net, net.dense("b", net.dense("a", net.input)), out=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "diagnosis.json").read_text()) == report
    colours = json.loads((tmp_path / "out" / "model_explorer.json").read_text())
    assert set(colours["results"]) == {"a", "b"}
    assert sum(one["value"] for one in colours["results"].values()) == pytest.approx(100, abs=0.1)


def test_models_that_have_nothing_in_common_are_refused(tmp_path: Path) -> None:
    one, other = Net(), Net()
    int8 = quantize(one.save(tmp_path / "a.tflite", one.dense("a", one.input)), tmp_path)
    model = other.save(tmp_path / "b.tflite", other.dense("b", other.input))
    np.savez(tmp_path / "s.npz", x=noise(4, 2))
    with pytest.raises(UnsupportedModel, match="was not made of"):
        edgepipe.diagnose(model, int8=int8, samples=tmp_path / "s.npz")


def test_a_model_is_quantized_on_the_way_and_its_held_out_samples_are_used(tmp_path: Path) -> None:
    net = Net()
    model = net.save(tmp_path / "float.tflite", net.dense("b", net.dense("a", net.input)))
    np.savez(tmp_path / "data.npz", x=noise(40, 1))
    found = edgepipe.diagnose(model, calibration=tmp_path / "data.npz", count=4)
    assert found.report["samples"] == 4
    assert {one["layer"] for one in found.layers} == {"a", "b"}


def test_data_is_asked_for() -> None:
    with pytest.raises(OptionError, match="needs data"):
        edgepipe.diagnose("model.tflite")


def test_the_command_shows_the_costliest_layers_within_eighty_columns(tmp_path: Path) -> None:
    from edgepipe.cli.main import edgepipe as command

    net = Net()
    deep = net.input
    for number in range(5):
        deep = net.dense(f"a/very/long/scope/of/some/framework/with/parts/dense_{number}", deep)
    model = net.save(tmp_path / "float.tflite", deep)
    int8 = quantize(model, tmp_path)
    np.savez(tmp_path / "s.npz", x=noise(8, 2))
    words = ["diagnose", str(model), "--int8", str(int8), "--samples", str(tmp_path / "s.npz")]
    shown = CliRunner().invoke(command, [*words, "--layers", "3"], catch_exceptions=False)
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("output output_0: ")
    assert [line.split()[2] for line in lines[2:5]] == ["FULLY_CONNECTED"] * 3
    assert "2 more layers" in lines[5]
    assert max(map(len, lines[1:])) <= 80
    as_json = CliRunner().invoke(command, [*words, "--json"], catch_exceptions=False)
    assert len(json.loads(as_json.stdout)["layers"]) == 5
