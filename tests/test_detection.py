"""COCO's mean average precision, against cases by hand and against the library itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflite_models import chain, floats

import edgepipe
from edgepipe.errors import EdgepipeError, OptionError, SamplesError
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.tflite import saving
from edgepipe.tflite.graph import Tensor
from edgepipe.validation.average_precision import Matches, mean_over_categories
from edgepipe.validation.metrics.by_name import named
from edgepipe.validation.metrics.metric import Misfit

coco = pytest.mark.toolchain("coco")
WIDTH, HEIGHT = 200, 100


@pytest.fixture(autouse=True)
def own_store(fresh_store: Path) -> None:
    """What is made and kept is each test's own."""


def annotated(folder: Path, boxes: list[list[tuple[int, list[float], int]]]) -> Path:
    """Of each image its boxes: category, bbox, iscrowd. The categories' ids have a gap."""
    images = [
        {"id": 10 + at, "file_name": f"{at}.png", "width": WIDTH, "height": HEIGHT}
        for at in range(len(boxes))
    ]
    made = [
        {"image_id": 10 + at, "category_id": category, "bbox": box, "iscrowd": crowd}
        for at, those in enumerate(boxes)
        for category, box, crowd in those
    ]
    categories = [{"id": 7, "name": "b"}, {"id": 2, "name": "a"}]
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": made, "categories": categories}))
    return path


def rows(*images: Any, metric: str = "map") -> Any:
    """Rows of boxes in pixels: left, top, right, bottom, score, class."""
    made = []
    for at, boxes in enumerate(images):
        shares = np.array(boxes, np.float32).reshape(-1, 6) / [WIDTH, HEIGHT, WIDTH, HEIGHT, 1, 1]
        made.append(named(metric).see(shares[None], [10 + at, WIDTH, HEIGHT], None))
    return np.stack(made)


def scored(folder: Path, truth: Path, metric: str = "map", **sides: Any) -> dict[str, Any]:
    np.savez(folder / "rows.npz", **sides)
    sampling = {"level": 0.95, "resamples": 200, "seed": 0}
    with Store() as store, Session(store) as session:
        entry = "edgepipe.validation.coco_jobs:score"
        return dict(
            session.call(
                "coco", entry, session.log("map"), metric=metric, output="detections",
                rows=str(folder / "rows.npz"), annotations=str(truth), sampling=sampling,
            ).value
        )  # fmt: skip


@coco
def test_two_boxes_by_hand(tmp_path: Path) -> None:
    truth = annotated(tmp_path, [[(2, [10, 10, 40, 40], 0)], [(2, [50, 20, 40, 40], 0)]])
    # The second overlaps by 25 / 40: right at 0.5, 0.55 and 0.6, wrong at the other seven.
    given = rows([[10, 10, 50, 50, 0.9, 0]], [[50, 20, 90, 45, 0.8, 0]])
    found = scored(tmp_path, truth, candidate=given)
    assert found["candidate"]["value"] == pytest.approx(100 * (3 + 7 * 51 / 101) / 10, abs=1e-4)
    half = scored(tmp_path, truth, "map50", candidate=given)
    assert half["candidate"]["value"] == pytest.approx(100, abs=1e-4)
    assert half["candidate"]["low"] < 100, "two images prove little"


@coco
def test_box_on_a_crowd_counts_for_nothing(tmp_path: Path) -> None:
    pictured: list[tuple[int, list[float], int]] = [
        (2, [10, 10, 40, 40], 0),
        (2, [100, 10, 80, 80], 1),
    ]
    truth = annotated(tmp_path, [*[pictured] * 5, []])
    said = [[10, 10, 50, 50, 0.5, 0], [100, 10, 180, 90, 0.9, 0]]
    given = rows(*[said] * 5, [[0, 0, 20, 20, 0.7, 0]])
    found = scored(tmp_path, truth, candidate=given)
    # Of what stands above the right ones only the box of the empty image counts: 5 of 6.
    assert found["candidate"]["value"] == pytest.approx(100 * 5 / 6, abs=1e-4)


@coco
def test_sides_are_paired_and_agree_with_the_library(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    boxes: list[Any] = []
    exact: list[Any] = []
    rough: list[Any] = []
    for _ in range(40):
        corner = random.uniform(0, 50, (3, 2))
        size = random.uniform(15, 45, (3, 2))
        kind = random.integers(0, 2, 3)
        boxes.append(
            [(7 if one else 2, [*map(float, (*at, *wide))], 0)
             for one, at, wide in zip(kind, corner, size, strict=True)]
        )  # fmt: skip
        for side, noise in ((exact, 2.0), (rough, 5.0)):
            moved = np.concatenate([corner, corner + size], axis=1)
            moved = moved + random.normal(0, noise, moved.shape)
            sure = random.uniform(0.1, 1, (4, 1))
            wild = np.concatenate([random.uniform(0, 40, 2), random.uniform(60, 90, 2)])[None]
            every = np.concatenate([moved, wild])
            side.append(np.concatenate([every, sure, [*kind[:, None], [0]]], axis=1))
    truth = annotated(tmp_path, boxes)
    found = scored(tmp_path, truth, candidate=rows(*rough), baseline=rows(*exact))
    # The job itself refuses a sum that isn't the library's figure.
    low, high = found["difference"]["low"], found["difference"]["high"]
    assert low < found["difference"]["value"] < high < 0
    assert found["p_value"] < 0.05
    assert found["test"] == "paired bootstrap, 200 resamples"
    assert found["differing"] == 40
    same = scored(tmp_path, truth, candidate=rows(*exact), baseline=rows(*exact))
    assert (same["difference"]["value"], same["differing"]) == (0, 0)


@coco
def test_class_without_a_category_is_refused(tmp_path: Path) -> None:
    truth = annotated(tmp_path, [[(2, [10, 10, 40, 40], 0)]] * 2)
    given = rows([[10, 10, 50, 50, 0.9, 6]], [])
    with pytest.raises(SamplesError, match="class 6 is none of the 2 categories"):
        scored(tmp_path, truth, candidate=given)
    by_id = rows([[10, 10, 50, 50, 0.9, 1]], [[10, 10, 50, 50, 0.8, 1]], metric="map-by-id")
    found = scored(tmp_path, truth, "map-by-id", candidate=by_id)
    assert found["candidate"]["value"] == pytest.approx(100, abs=1e-4)


def test_image_that_is_drawn_twice_counts_twice() -> None:
    matches = Matches(
        np.array([0, 1, 0]), np.array([0, 0, 0]), np.array([[True, False, True]]),
        np.zeros((1, 3), bool), np.array([[2.0], [1.0]]),
    )  # fmt: skip
    weights = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    # Both: 1/3 at precision 1, 2/3 at precision 2/3. The first alone: all. The second: nothing.
    found = mean_over_categories(matches, weights)
    assert found[:3] == pytest.approx([(34 + 33 * 2 / 3) / 101, 1, 0])
    assert np.isnan(found[3])


def test_outputs_that_are_no_boxes_are_refused() -> None:
    metric = named("map")
    assert metric.misfit((1, None, 6), "float32") == ""
    assert "--postprocess" in metric.misfit((1, 84, 8400), "float32")
    with pytest.raises(Misfit, match="COCO's annotations"):
        metric.see(np.zeros((1, 2, 6), np.float32), 3, None)


@coco
@pytest.mark.toolchain("edge")
def test_detector_is_validated_through_its_decoding(tmp_path: Path) -> None:
    """A model that gives its input, as YOLO would: centre, size, two scores."""
    truth = annotated(tmp_path, [[(2, [40, 20, 80, 40], 0)], [(7, [100, 50, 60, 30], 0)]] * 20)
    first = np.zeros((6, 30), np.float32)
    second = first.copy()
    first[:, 0] = (0.4, 0.4, 0.4, 0.4, 0.9, 0.1)
    second[:, 3] = (0.65, 0.65, 0.3, 0.3, 0.0, 0.8)
    np.save(tmp_path / "x.npy", np.stack([first, second] * 20))
    step: tuple[Any, ...] = ("MUL", (1, 6, 30), ("x", floats(1.0)), {})
    saving.save(chain(Tensor("x", (1, 6, 30)), step), tmp_path / "model.tflite")
    arguments: dict[str, Any] = {
        "data": tmp_path / "x.npy", "out": tmp_path / "out", "truth": truth,
        "against": tmp_path / "model.tflite",
    }  # fmt: skip
    found = edgepipe.validate(
        tmp_path / "model.tflite", postprocess="yolo:conf=0.25", gates={"min-map": 90}, **arguments
    )
    (score,) = [one for one in found.validation.scores if one.metric == "map"]
    assert score.output == "detections"
    assert score.candidate.value == pytest.approx(100, abs=1e-3)
    assert score.difference is not None and score.differing == 0
    with pytest.raises(Misfit, match="--postprocess"):
        edgepipe.validate(tmp_path / "model.tflite", metrics=["map"], **arguments)
    with pytest.raises((OptionError, EdgepipeError), match="needs to know"):
        edgepipe.validate(
            tmp_path / "model.tflite", metrics=["map"], postprocess="yolo",
            **{**arguments, "truth": ""},
        )  # fmt: skip
