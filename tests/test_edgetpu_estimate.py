"""Estimates of latency: against published figures, cut into segments, scaled to a host."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import numpy as np
import pytest
from legalise_cases import real
from tflite_models import model_of

import edgepipe
from edgepipe.cli.main import run
from edgepipe.errors import LimitError, OptionError, UnknownName, UnsupportedModel
from edgepipe.targets.edgetpu import host_calibration, host_profile, segments, workload
from edgepipe.targets.edgetpu.estimating import CACHE, estimate
from edgepipe.targets.edgetpu.workload import Work
from edgepipe.tflite import saving
from edgepipe.tflite.graph import Graph, Model, Op, Quantization, Tensor

CORAL = {
    # GMAC, MiB of activations and of parameters, as `workload` counts them; ms on USB 3 and on
    # the Dev Board, published at coral.ai/docs/edgetpu/benchmarks.
    "MobileNetV1": (0.572, 12.75, 4.30, 2.4, 2.4),
    "MobileNetV2": (0.338, 17.29, 3.86, 2.6, 2.6),
    "ResNet50V1": (3.897, 38.50, 24.69, 49, 56),
    "ResNet152V2": (10.946, 131.91, 58.19, 128, 151),
    "DenseNet": (2.874, 84.23, 7.68, 20, 25),
    "VGG16": (15.499, 28.92, 132.18, 296, 343),
    "VGG19": (19.661, 31.41, 137.26, 308, 357),
    "SqueezeNet": (0.358, 8.65, 1.23, 2.1, 2.0),
}
ENDS = 0.145
PICTURE = (1, 32, 32, 64)


@pytest.mark.parametrize(("host", "column"), [("usb3", 3), ("devboard", 4)])
def test_published_latencies_lie_in_the_band_and_not_all_in_its_middle(
    host: str, column: int
) -> None:
    profile = host_profile.load(host)
    off = {}
    for name, row in CORAL.items():
        gmac, moved, parameters = row[:3]
        found = profile.milliseconds(
            Work(gmac, moved, parameters), max(0, parameters - CACHE), ENDS
        )
        off[name] = found / row[column] - 1
    worst = max(abs(one) for one in off.values())
    assert worst <= profile.error, off
    assert worst > profile.error / 2, f"the band is wider than what was seen: {off}"
    assert float(np.median([abs(one) for one in off.values()])) < 0.15, off


def row(count: int, wide: bool = False) -> Model:
    """Convolutions in a row; one of them is much heavier than the others."""
    last, ops = real("x", PICTURE), list[Op]()
    for place in range(count):
        window = 7 if wide and place == 1 else 1
        known = Quantization((0.1,), (0,))
        weights = Tensor.constant(
            f"w{place}", np.ones((64, window, window, 64), np.int8), quantization=known
        )
        bias = Tensor.constant(f"b{place}", np.ones(64, np.int32))
        made = real(f"t{place}", PICTURE)
        ops.append(Op.make("CONV_2D", [last, weights, bias], [made], padding="SAME",
                           stride_w=1, stride_h=1))  # fmt: skip
        last = made
    return model_of(ops, [ops[0].inputs[0]], [last])  # type: ignore[list-item]


def saved(folder: Path, model: Model, name: str = "model.tflite") -> Path:
    saving.save(model, folder / name)
    return folder / name


def test_work_of_a_convolution() -> None:
    found = workload.of_op(row(1).main.ops[0])
    assert found.gmac == pytest.approx(32 * 32 * 64 * 64 / 1e9)
    assert found.activations == pytest.approx(2 * 32 * 32 * 64 / 2**20)
    assert found.parameters == pytest.approx((64 * 64 + 64 * 4) / 2**20)


def test_an_estimate_says_that_it_is_one(tmp_path: Path) -> None:
    path = saved(tmp_path, row(6))
    found = edgepipe.estimate(path)
    (one,) = found.models
    assert one.least < one.milliseconds < one.most
    assert one.most / one.milliseconds >= 1 + found.host.error
    assert (one.streamed, one.cpu, one.mapped) == (0, 0, 6)
    facts = found.to_json()
    assert facts["what"] == "an estimate, not a measurement"
    assert all(facts["host"]["sources"].values())
    json.dumps(facts)


def test_slower_hosts_take_longer_where_parameters_are_streamed(tmp_path: Path) -> None:
    weights = Tensor.constant("w", np.ones((4096, 4096), np.int8),
                              quantization=Quantization((0.1,), (0,)))  # fmt: skip
    op = Op.make("FULLY_CONNECTED", [real("x", (1, 4096)), weights], [real("y", (1, 4096))])
    path = saved(tmp_path, model_of([op], op.inputs[:1], op.outputs))  # type: ignore[arg-type]
    times = {name: estimate(path, host=name).models[0] for name in host_profile.names()}
    assert set(times) == {"usb2", "usb3", "pcie", "devboard"}
    assert times["usb2"].milliseconds > 5 * times["usb3"].milliseconds
    assert times["usb3"].cached == pytest.approx(CACHE)
    assert times["usb3"].streamed == pytest.approx(16 - CACHE, abs=0.1)


def test_the_cut_is_the_best_of_all() -> None:
    graph, host = row(9, wide=True).main, host_profile.load("usb3")
    found = segments.cut(graph, 3, host, CACHE)
    assert [one.first for one in found[1:]] == [one.end for one in found[:-1]]
    assert (found[0].first, found[-1].end) == (0, 9)

    def slowest(places: tuple[int, ...]) -> float:
        bounds = [0, *places, 9]
        return max(
            host.milliseconds(workload.total(graph.ops[a:b]), 0, 2 * 32 * 32 * 64 / 2**20)
            for a, b in itertools.pairwise(bounds)
        )

    best = min(slowest(places) for places in itertools.combinations(range(1, 9), 2))
    assert max(one.milliseconds for one in found) == pytest.approx(best)


def test_a_cut_is_made_only_where_few_tensors_cross() -> None:
    x = real("x", PICTURE)
    parts = [real(f"p{i}", PICTURE) for i in range(4)]
    ops = [Op.make("RELU", [x], [one]) for one in parts]
    total = parts[0]
    for place, one in enumerate(parts[1:]):
        made = real(f"s{place}", PICTURE)
        ops.append(Op.make("ADD", [total, one], [made]))
        total = made
    graph = model_of(ops, [x], [total]).main
    found = segments.cut(graph, 2, host_profile.load("usb3"), CACHE)
    assert len(workload.crossing(graph, found[0].end)) <= segments.FEW
    with pytest.raises(UnsupportedModel, match="too few for 8 segments"):
        segments.cut(graph, 8, host_profile.load("usb3"), CACHE)


def test_what_runs_most_often_is_cached_first(tmp_path: Path) -> None:
    small, large = saved(tmp_path, row(2), "a.tflite"), saved(tmp_path, row(5), "b.tflite")
    found = estimate(small, large, rates=(1, 30))
    assert [Path(one.model).name for one in found.models] == ["b.tflite", "a.tflite"]
    assert found.models[0].share == pytest.approx(found.models[0].milliseconds * 0.03)


def test_a_thousand_operators_are_cut_in_seconds(tmp_path: Path) -> None:
    x = real("x", (1, 8, 8, 4))
    ops, last = list[Op](), x
    for place in range(1000):
        made = real(f"t{place}", (1, 8, 8, 4))
        ops.append(Op.make("RELU", [last], [made]))
        last = made
    path = saved(tmp_path, model_of(ops, [x], [last]))
    start = time.perf_counter()
    assert len(estimate(path, segments=4).segments) == 4
    assert time.perf_counter() - start < 30


def test_a_host_is_calibrated_from_measurements(tmp_path: Path) -> None:
    paths = [saved(tmp_path, row(count, wide=True), f"{count}.tflite") for count in (2, 5, 20)]
    base = host_profile.load("usb3")
    truth = [0.2 + 3 * (estimate(path).models[0].milliseconds - base.fixed_ms) for path in paths]
    lines = "".join(f"{path.name},{ms}\n" for path, ms in zip(paths, truth, strict=True))
    (tmp_path / "measured.csv").write_text("# model,ms\n" + lines)
    out = tmp_path / "mine.toml"
    assert run(["calibrate-host", str(tmp_path / "measured.csv"), "-o", str(out)]) == 0
    mine = host_profile.load(str(out))
    assert mine.error < base.error
    for path, ms in zip(paths, truth, strict=True):
        assert estimate(path, host=str(out)).models[0].milliseconds == pytest.approx(ms, rel=0.1)
    one = host_calibration.calibrate_host({paths[0]: 3.0})
    assert one.error == base.error
    assert estimate(paths[0]).models[0].milliseconds * one.fixed_ms / base.fixed_ms == (
        pytest.approx(3.0, rel=0.01)
    )


@pytest.mark.parametrize("latency", ["nan", "inf", "-4", "0"])
def test_latencies_that_are_none_are_refused(latency: str, tmp_path: Path) -> None:
    path = saved(tmp_path, row(2))
    (tmp_path / "measured.csv").write_text(f"{path.name},{latency}\n")
    words = ["calibrate-host", str(tmp_path / "measured.csv"), "-o", str(tmp_path / "mine.toml")]
    assert run(words) == 2


def test_wrong_questions_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, row(2))
    with pytest.raises(UnknownName, match="usb4"):
        estimate(path, host="usb4")
    with pytest.raises(OptionError, match="segments"):
        estimate(path, path, segments=2)
    with pytest.raises(OptionError, match="rates"):
        estimate(path, rates=(1, 2))
    op = Op.make("HARD_SWISH", [real("a", PICTURE)], [real("b", PICTURE)])
    broken = saved(tmp_path, model_of([op], op.inputs[:1], op.outputs), "b.tflite")  # type: ignore[arg-type]
    with pytest.raises(LimitError, match="nothing runs on the Edge TPU"):
        estimate(broken)
    bad = tmp_path / "bad.toml"
    bad.write_text("[fixed_ms]\nvalue = 1\n")
    with pytest.raises(OptionError, match="value and source was expected"):
        estimate(path, host=str(bad))
    (tmp_path / "m.csv").write_text("model.tflite\n")
    with pytest.raises(OptionError, match="line 1"):
        host_calibration.read(tmp_path / "m.csv")
    assert run(["estimate", str(path), "--rates", "x"]) == 2


def test_command_prints_the_band_and_the_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, row(6))
    assert run(["estimate", str(path), "--segments", "2", "--host", "devboard"]) == 0
    shown = capsys.readouterr().out
    for words in ("an estimate, not a measurement", " to ", "cut behind t", "one result every"):
        assert words in shown
    assert isinstance(row(1).main, Graph)
