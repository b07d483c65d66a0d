"""Boards beside each other: outputs, and the operator where they begin to differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_bundles import Converted, converted

import edgepipe
from edgepipe.cli.main import run
from edgepipe.devices import emulated_machine, inventory, layer_models
from edgepipe.devices.inventory import Device
from edgepipe.devices.layer_differences import Difference, Explained
from edgepipe.errors import EdgepipeError
from edgepipe.tflite import loading

pytestmark = pytest.mark.toolchain("edge")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return converted(tmp_path_factory.mktemp("converted"))


@pytest.fixture(scope="module")
def bundle(subject: Converted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return subject.bundle(tmp_path_factory.mktemp("bundle") / "net.edgebundle", samples=10).path


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPIPE_CONFIG", str(tmp_path / "configuration"))


def test_the_same_kernels_give_the_same_outputs(bundle: Path, tmp_path: Path) -> None:
    found = edgepipe.compare(["host", "host:auto"], bundle, results=tmp_path, latency=False)
    assert [pair.differing for pair in found.pairs] == [0, 0]
    assert all(pair.layers is None and pair.same_answer == 1.0 for pair in found.pairs)


def test_other_kernels_are_told_apart_by_operator(bundle: Path, tmp_path: Path) -> None:
    found = edgepipe.compare(
        ["host:reference", "host:xnnpack"], bundle, results=tmp_path, latency=False, layer_samples=3
    )
    float32 = next(pair for pair in found.pairs if pair.model == "model_float32.tflite")
    assert float32.differing and float32.most_steps is None and float32.sqnr_db > 100
    assert float32.layers is not None
    first = float32.layers.first
    assert first is not None and first.op in ("FULLY_CONNECTED", "SOFTMAX")
    before = [row for row in float32.layers.rows if row.place < first.place]
    assert all(row.share == 0 for row in before)
    assert all(row.own_share == 0 for row in float32.layers.rows if row.op == "RELU")
    assert first.own_share == first.share, "with the same inputs, it is its own difference"


def test_an_emulated_arm_is_compared_with_the_host(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        emulated_machine.make(emulated_machine.spec("aarch64"))
    except EdgepipeError as error:
        pytest.skip(f"{error.message}; {error.hint}")
    inventory.add(Device("pi", "emulated", machine="aarch64"))
    results = tmp_path / "results"
    words = ["compare", "pi", str(bundle), "--results", str(results), "--delegate", "none"]
    assert run([*words, "--max-steps", "8"]) == 0
    said = capsys.readouterr().out
    assert "model_int8.tflite: pi beside host" in said
    document = json.loads((results / "comparison.json").read_text())
    assert [row["name"] for row in document["devices"]] == ["host", "pi"]
    arm = document["devices"][1]
    assert arm["emulated"] and "latency" not in arm["models"][0]
    assert arm["board"]["machine"] == "aarch64"
    float32 = document["pairs"][0]
    assert float32["sqnr_db"] > 100 and float32["same_answer"] == 1.0


def test_the_forms_of_a_model_show_every_operator(subject: Converted, tmp_path: Path) -> None:
    file = subject.folder / "model_int8.tflite"
    layers = layer_models.write(file, tmp_path)
    model = loading.load(file)
    assert [row.op for row in layers.rows] == [op.label for op in model.main.ops]
    probe = loading.load(layers.probe).main
    names = {tensor.name for tensor in probe.outputs}
    assert all(name in names for row in layers.rows for name in row.outputs)
    assert {tensor.name for tensor in model.main.outputs} <= names, "the ends lost their names"
    assert layers.apart is not None
    apart = loading.load(layers.apart).main
    made = {id(tensor) for op in apart.ops for tensor in op.outputs}
    assert not any(id(tensor) in made for op in apart.ops for tensor in op.inputs if tensor)


def test_where_it_starts_is_the_first_with_equal_inputs() -> None:
    def row(place: int, share: float, own: float | None, starts: bool) -> Difference:
        return Difference(place, "ADD", "x", share, 1.0, own, own, True, starts)

    seen = Explained((row(0, 0, 0, False), row(1, 0.5, 0.5, True), row(2, 0.7, 0.0, False)), 1)
    assert seen.first is not None and seen.first.place == 1
    assert seen.kinds() == [{"op": "ADD", "count": 3, "own": 1, "most": 0.5}]
    assert Explained((), 1).first is None


def test_limits_and_mistakes_end_with_their_codes(bundle: Path, tmp_path: Path) -> None:
    words = [str(bundle), "--results", str(tmp_path), "-q", "--layers", "0", "--no-latency"]
    assert run(["compare", "host", *words]) == 2, "a board with itself"
    assert run(["compare", "host", "host:auto", *words, "--max-steps", "0"]) == 0
    assert run(["compare", "host", "nobody", *words]) == 2


def test_steps_beyond_the_limit_end_with_5(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepipe.cli.compare import _code
    from edgepipe.devices.comparison import Comparison, Pair

    pair = Pair("m", "a", "b", 10, 1, 3, 40.0, {0: 9, 3: 1}, 1.0)
    found = Comparison((), (pair,))
    assert (_code(found, None), _code(found, 3), _code(found, 2)) == (0, 0, 5)
    assert np.isfinite(pair.to_json()["sqnr_db"])
