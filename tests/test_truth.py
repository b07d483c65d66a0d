"""What is true of samples beside labels, from each place where it may lie, and metrics on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_data_command import grey_png
from test_data_kinds import write_png
from tflite_models import chain, floats

import edgepipe
from edgepipe.artifact import Port, Signature
from edgepipe.dataset import DataSource
from edgepipe.errors import OptionError, SamplesError, TrustRequired
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.tflite import saving
from edgepipe.tflite.graph import Tensor
from edgepipe.validation import truth, truth_jobs
from edgepipe.validation.metrics.metric import Misfit
from edgepipe.validation.truth import Truths, TruthSource
from edgepipe.validation.validating import Validated

edge = pytest.mark.toolchain("edge")
COUNT, FEATURES = 60, 4
WEIGHTS = np.random.default_rng(0).standard_normal((2, FEATURES)).astype(np.float32)


@pytest.fixture(autouse=True)
def own_store(fresh_store: Path) -> None:
    """What is made and kept is each test's own."""


def regressor(folder: Path, name: str, noise: float = 0.0) -> Path:
    """Two numbers out of four."""
    moved = WEIGHTS + noise * np.random.default_rng(1).standard_normal(WEIGHTS.shape)
    step: tuple[Any, ...] = (
        "FULLY_CONNECTED",
        (1, 2),
        ("x", moved.astype(np.float32), floats([0, 0])),
        {},
    )
    saving.save(chain(Tensor("x", (1, FEATURES)), step), folder / name)
    return folder / name


def segmenter(folder: Path, name: str) -> Path:
    """Of each pixel's three numbers the scores of three classes: the largest is it."""
    kernel = np.eye(3, dtype=np.float32).reshape(3, 1, 1, 3)
    step: tuple[Any, ...] = ("CONV_2D", (1, 6, 8, 3), ("x", kernel, floats([0, 0, 0])),
            {"padding": "SAME", "stride_w": 1, "stride_h": 1})  # fmt: skip
    saving.save(chain(Tensor("x", (1, 6, 8, 3)), step), folder / name)
    return folder / name


def ends(*shape: int) -> dict[str, Any]:
    return Signature((Port("x", shape, "float32"),), (Port("y", (1, 2), "float32"),)).to_json()


def read(data: Path, where: str | Path, folder: Path, *shape: int) -> tuple[dict[str, Any], Truths]:
    inside = () if Path(where).exists() else (str(where),)
    source = replace(DataSource.of(data), apart=inside)
    origin = TruthSource(str(where)).to_json()
    found = truth_jobs.write(source.to_json(), ends(*shape), origin, str(folder / "truth"))
    return found, Truths(found["folder"])


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """An array of samples, with what is true of them in the same file."""
    x = np.random.default_rng(2).standard_normal((COUNT, FEATURES)).astype(np.float32)
    y = x @ WEIGHTS.T + 0.1 * np.random.default_rng(3).standard_normal((COUNT, 2))
    np.savez(tmp_path / "data.npz", x=x, target=y)
    np.savez(tmp_path / "alone.npz", x=x)
    np.save(tmp_path / "y.npy", y)
    return tmp_path / "data.npz"


@pytest.fixture
def alone(numbers: Path) -> Path:
    """The samples by themselves."""
    return numbers.with_name("alone.npz")


# Where it lies


def test_array_of_the_data_and_array_of_a_file_are_the_same(numbers: Path, tmp_path: Path) -> None:
    y = np.load(tmp_path / "y.npy")
    for data, where in ((numbers, "target"), (numbers.with_name("alone.npz"), tmp_path / "y.npy")):
        found, truths = read(data, where, tmp_path, 1, FEATURES)
        assert found["kinds"] == ["numbers"]
        assert found["count"] == COUNT
        assert np.array_equal(np.stack([truths.at(place) for place in range(COUNT)]), y)


def test_columns_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "houses.csv"
    table.write_text("a,b,price,age\n1,2,3.5,4\n5,6,7.5,8\n")
    found, truths = read(table, "price", tmp_path, 1, 4)
    assert [truths.at(place).tolist() for place in range(2)] == [[3.5], [7.5]]
    assert found["kinds"] == ["numbers"]
    found, truths = read(table, "age", tmp_path, 1, 4)
    assert found["kinds"] == ["label", "numbers"]
    with pytest.raises(SamplesError, match="no column 'cost'") as caught:
        read(table, "cost", tmp_path, 1, 4)
    assert "a, b, price, age" in caught.value.hint


def test_lines_of_name_and_numbers(tmp_path: Path) -> None:
    for name in ("one", "two"):
        np.save(tmp_path / f"{name}.npy", np.zeros((1, 4), np.float32))
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "truth.csv").write_text("name,x,y\ntwo,3,4\none.npy,1,2.5\n")
    (folder / "half.csv").write_text("one,1\n")
    _, truths = read(tmp_path, folder / "truth.csv", folder, 1, 4)
    assert [truths.at(place).tolist() for place in range(2)] == [[1, 2.5], [3, 4]]
    with pytest.raises(SamplesError, match=r"says nothing of 1 of 2 samples: 'two.npy'") as caught:
        read(tmp_path, folder / "half.csv", folder, 1, 4)
    assert caught.value.details["missing"] == ["two.npy"]


@edge
def test_masks_are_matched_by_name(tmp_path: Path) -> None:
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    for folder in (pictures / "a", masks / "a"):
        folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    wanted = {}
    for name in ("a/x", "a/y"):
        write_png(pictures / f"{name}.png", random.integers(0, 255, (6, 8, 3), np.uint8))
        wanted[name] = random.integers(0, 3, (6, 8), np.uint8)
        (masks / f"{name}.png").write_bytes(grey_png(wanted[name]))
    source = DataSource.of(pictures)
    origin = TruthSource(str(masks))
    assert origin.toolchain == "edge"
    with Store() as store, Session(store) as session:
        arguments = (source.to_json(), ends(1, 6, 8, 3), origin.to_json(), str(tmp_path / "truth"))
        names = ("data", "ends", "source", "folder")
        entry = "edgepipe.validation.truth_jobs:write"
        log = session.log("truth")
        found = session.call("edge", entry, log, **dict(zip(names, arguments, strict=True))).value
        assert found["kinds"] == ["mask", "numbers"]
        truths = Truths(found["folder"])
        assert np.array_equal(truths.at(0), wanted["a/x"])
        assert np.array_equal(truths.at(1), wanted["a/y"])
        write_png(masks / "a/y.png", random.integers(0, 255, (6, 8, 3), np.uint8))
        with pytest.raises(SamplesError, match="is of colours"):
            session.call("edge", entry, log, **dict(zip(names, arguments, strict=True)))
        (masks / "a/y.png").unlink()
        with pytest.raises(SamplesError, match=r"1 of 2 samples: 'a/y\.png'"):
            session.call("edge", entry, log, **dict(zip(names, arguments, strict=True)))


def test_truth_of_another_length_is_refused(alone: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.zeros((COUNT - 1, 2)))
    with pytest.raises(SamplesError, match=f"{COUNT - 1} samples, the data has {COUNT}"):
        read(alone, tmp_path / "short.npy", tmp_path, 1, FEATURES)
    np.savez(tmp_path / "two.npz", a=np.zeros(COUNT), b=np.zeros(COUNT))
    with pytest.raises(SamplesError, match="none is named as a truth is") as caught:
        read(alone, tmp_path / "two.npz", tmp_path, 1, FEATURES)
    assert "'a', 'b'" in caught.value.hint
    with pytest.raises(SamplesError, match="no array 'none'"):
        read(alone, "none", tmp_path, 1, FEATURES)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(SamplesError, match="COCO"):
        read(alone, tmp_path / "x.json", tmp_path, 1, FEATURES)


def test_truth_of_unlike_shapes_comes_back_as_it_was(tmp_path: Path) -> None:
    given = [np.arange(size * 2).reshape(size, 2) for size in (3, 0, 5)]
    found = truth.write(tmp_path, iter(given))
    truths = Truths(found["folder"])
    for place, array in enumerate(given):
        assert np.array_equal(truths.at(place), array)
    assert found["digest"] != truth.write(tmp_path, iter(given[::-1]))["digest"]
    with pytest.raises(SamplesError, match="several types"):
        truth.write(tmp_path, iter([np.zeros(2), np.zeros(2, int)]))


# In a validation


def validated(folder: Path, data: Path, **arguments: Any) -> Validated:
    against = regressor(folder, "float.tflite")
    return edgepipe.validate(
        regressor(folder, "other.tflite", 0.2), against=against, data=data, out=folder / "out",
        **arguments,
    )  # fmt: skip


def figures(found: Validated) -> dict[str, float]:
    return {one.metric: one.candidate.value for one in found.validation.scores}


@edge
def test_numbers_are_measured_against_the_truth(numbers: Path, tmp_path: Path) -> None:
    found = validated(tmp_path, numbers, truth="target")
    with np.load(numbers) as file:
        x, y = file["x"], file["target"]
    moved = WEIGHTS + 0.2 * np.random.default_rng(1).standard_normal(WEIGHTS.shape)
    said = x @ moved.astype(np.float32).T
    assert set(figures(found)) == {"mae", "r2", "agreement", "sqnr"}
    assert figures(found)["mae"] == pytest.approx(np.abs(said - y).mean(), rel=1e-4)
    mae = found.validation.scores[0]
    assert mae.difference is not None and mae.difference.low > 0
    assert mae.baseline is not None
    assert mae.baseline.value == pytest.approx(np.abs(x @ WEIGHTS.T - y).mean(), rel=1e-4)
    with pytest.raises(SamplesError, match="top1 needs to know"):
        validated(tmp_path, numbers, truth="target", metrics=["top1"])


@edge
def test_another_truth_is_another_result(alone: Path, tmp_path: Path) -> None:
    first = figures(validated(tmp_path, alone, truth=tmp_path / "y.npy", metrics=["mae"]))
    np.save(tmp_path / "y.npy", np.load(tmp_path / "y.npy") + 5)
    second = figures(validated(tmp_path, alone, truth=tmp_path / "y.npy", metrics=["mae"]))
    assert second["mae"] > first["mae"] + 3


@edge
@pytest.mark.parametrize("steps", [(), ("argmax",)])
def test_masks_are_measured_with_and_without_argmax(tmp_path: Path, steps: tuple[str, ...]) -> None:
    random = np.random.default_rng(4)
    masks = random.integers(0, 3, (40, 6, 8))
    said = np.where(random.random(masks.shape) < 0.8, masks, 0)
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32)[said])
    np.save(tmp_path / "masks.npy", masks)
    model = segmenter(tmp_path, "float.tflite")
    found = edgepipe.validate(
        model, data=tmp_path / "x.npy", truth=tmp_path / "masks.npy", postprocess=steps,
        metrics=["miou", "pixel-accuracy"], out=tmp_path / "out",
    )  # fmt: skip
    both = [((said == at) & (masks == at)).sum() for at in range(3)]
    either = [((said == at) | (masks == at)).sum() for at in range(3)]
    shares = [100 * a / b for a, b in zip(both, either, strict=True)]
    assert figures(found)["miou"] == pytest.approx(np.mean(shares))
    assert figures(found)["pixel-accuracy"] == pytest.approx(100 * (said == masks).mean())


@edge
def test_own_metric_truth_and_postprocessing(alone: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def double(outputs):\n    return {'doubled': 2 * next(iter(outputs.values()))}\n"
        "def worst(output, truth):\n    return abs(output - truth).max()\n"
        "def apart(output, truth, reference):\n    return abs(output - reference).max()\n"
        "def true(name, index):\n    return np.full(2, float(index))\n"
        "def broken(output, truth):\n    return float('nan')\n"
    )
    common = {"trust": True, "python_path": [str(tmp_path)], "truth": "mine:true"}
    found = validated(
        tmp_path, alone, metrics=["mine:worst:lower", "mine:apart"], postprocess="mine:double",
        gates={"max-drop-mine:worst": 100}, **common,
    )  # fmt: skip
    worst, apart = found.validation.scores
    with np.load(alone) as file:
        wanted = np.abs(2 * file["x"] @ WEIGHTS.T - np.arange(COUNT)[:, None]).max(1).mean()
    assert worst.output == "doubled" and not worst.higher_is_better
    assert worst.baseline is not None and worst.baseline.value == pytest.approx(wanted, rel=1e-4)
    assert apart.baseline is None and apart.candidate.value > 0
    assert found.validation.gates[0].verdict.value == "passed"
    with pytest.raises(edgepipe.EdgepipeError, match="expected a finite number"):
        validated(tmp_path, alone, metrics=["mine:broken"], **common)
    with pytest.raises(TrustRequired, match="measuring would run it"):
        validated(tmp_path, alone, metrics=["mine:worst"], python_path=[str(tmp_path)])
    with pytest.raises(TrustRequired, match="what is true"):
        validated(tmp_path, alone, truth="mine:true", python_path=[str(tmp_path)])


@edge
def test_metric_that_does_not_fit_ends_before_anything_runs(numbers: Path, tmp_path: Path) -> None:
    with pytest.raises(Misfit, match="is no mask") as caught:
        validated(tmp_path, numbers, truth="target", metrics=["miou"])
    assert "mae" in caught.value.hint
    with pytest.raises(OptionError, match="yolo needs one output"):
        validated(tmp_path, numbers, truth="target", postprocess="yolo")
