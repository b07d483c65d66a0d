"""COCO's mean average precision by faster-coco-eval, in its toolchain, with intervals.

The library matches boxes with what is true and gives the figure. It has no resampling, so its
matches are read at each overlap, and precision is summed up over resampled images here; on the
images as they are both must come to the same.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.errors import InternalError, SamplesError
from edgepipe.validation.average_precision import Matched, Matches
from edgepipe.validation.metrics.by_name import named
from edgepipe.validation.metrics.detection import BOXES, NUMBERS, MeanAveragePrecision
from edgepipe.validation.statistics import Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_RESAMPLES = 500
"""Each sums up every box at ten overlaps."""
SAME = 1e-6


def score(
    metric: str, output: str, rows: str, annotations: str, sampling: dict[str, Any]
) -> dict[str, Any]:
    """A `Score` as data, of the rows in a file: `candidate`, and `baseline` if there is one."""
    import numpy as np

    from edgepipe.validation import statistics

    kind = named(metric)
    assert isinstance(kind, MeanAveragePrecision)
    with np.load(rows) as file:
        sides = [file[name] for name in ("candidate", "baseline") if name in file]
    truth = _truth(annotations, [int(number) for number in sides[0][:, 0]])
    found = [_matches(kind, side, truth) for side in sides]
    count = len(sides[0])
    places = [np.arange(count, dtype=np.float64)[:, None] + count * at for at in range(len(sides))]
    asked = Sampling(**sampling)
    asked = Sampling(asked.level, min(asked.resamples, MOST_RESAMPLES), asked.seed)
    matched = Matched(kind, [matches for matches, _ in found])
    beside = places[1] if len(places) > 1 else None
    made = statistics.score(matched, output, places[0], beside, asked)
    if len(sides) > 1:
        differing = int((sides[0] != sides[1]).any(axis=1).sum())
        made = replace(made, differing=differing)
    own = [made.candidate, made.baseline]
    for (_, theirs), ours in zip(found, own, strict=False):
        if ours is None or abs(ours.value - theirs) > 100 * SAME:
            raise InternalError(
                f"{metric}: faster-coco-eval gives {theirs}, the sum over its matches {ours}",
                hint="please report it, with the annotations.",
            )
    return asdict(made)


def _truth(annotations: str, images: list[int]) -> dict[str, Any]:
    """What COCO's file says of these images, with what some tools leave out."""
    try:
        given = json.loads(Path(annotations).read_text(encoding="utf-8"))
        wanted = set(images)
        boxes = [
            {
                "id": number,
                "image_id": one["image_id"],
                "category_id": one["category_id"],
                "bbox": [float(at) for at in one["bbox"]],
                "area": float(one.get("area", one["bbox"][2] * one["bbox"][3])),
                "iscrowd": int(one.get("iscrowd", 0)),
            }
            for number, one in enumerate(given["annotations"], 1)
            if one["image_id"] in wanted
        ]
        categories = sorted(given["categories"], key=lambda one: int(one["id"]))
        known = [one for one in given["images"] if one["id"] in wanted]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise SamplesError(
            f"{annotations} can't be read as COCO's annotations: {error!r}",
            hint="it needs images, categories, and annotations with image_id, category_id, bbox.",
        ) from error
    if not boxes:
        raise SamplesError(f"{annotations} has no box in any of {len(images)} images")
    return {"images": known, "categories": categories, "annotations": boxes}


def _matches(
    metric: MeanAveragePrecision, rows: NDArray[Any], truth: dict[str, Any]
) -> tuple[Matches, float]:
    """Matches at every overlap, and the library's own figure in percent."""
    import numpy as np

    images = [int(number) for number in rows[:, 0]]
    ids = [int(one["id"]) for one in truth["categories"]]
    boxes = rows[:, 1:].reshape(len(rows), BOXES, NUMBERS)
    place, which = np.nonzero(boxes[:, :, 4] > 0)
    flat = boxes[place, which]
    order = np.argsort(-flat[:, 4], kind="stable")
    place, flat = place[order], flat[order]
    category = _categories(metric, flat[:, 5], ids)
    said = [
        {
            "image_id": images[at],
            "category_id": ids[kind],
            "bbox": [float(x), float(y), float(right - x), float(bottom - y)],
            "score": float(sure),
        }
        for at, kind, (x, y, right, bottom, sure, _) in zip(place, category, flat, strict=True)
    ]
    overlaps = np.array([0.5]) if metric.first else np.linspace(0.5, 0.95, 10)
    crowd = {one["id"] for one in truth["annotations"] if one["iscrowd"]}
    right = np.zeros((len(overlaps), len(said)), bool)
    ignored = np.zeros_like(right)
    for line, overlap in enumerate(overlaps if said else ()):
        matched = _evaluated(truth, said, np.array([overlap]))["matched"]
        for pair in matched:
            box, true = map(int, pair.split("_"))
            right[line, box - 1] = True
            ignored[line, box - 1] = true in crowd
    wanted = np.zeros((len(images), len(ids)))
    places = {number: at for at, number in enumerate(images)}
    for one in truth["annotations"]:
        if not one["iscrowd"]:
            wanted[places[one["image_id"]], ids.index(one["category_id"])] += 1
    precision = _evaluated(truth, said, overlaps)["precision"] if said else np.zeros(1)
    theirs = 100 * float(precision[precision > -1].mean()) if (precision > -1).any() else 0.0
    return Matches(place, category, right, ignored, wanted), theirs


def _categories(
    metric: MeanAveragePrecision, said: NDArray[Any], ids: list[int]
) -> NDArray[np.intp]:
    import numpy as np

    classes = said.astype(np.intp)
    if metric.by_id:
        known = {number - 1: at for at, number in enumerate(ids)}
    else:
        known = {at: at for at in range(len(ids))}
    strange = sorted(set(classes.tolist()) - set(known))
    if strange:
        raise SamplesError(
            f"{metric.name}: the class {strange[0]} is none of the {len(ids)} categories",
            hint="map takes a class for the category's place in the order of ids, map-by-id for"
            " its id less 1.",
        )
    return np.array([known[one] for one in classes.tolist()], np.intp)


def _evaluated(
    truth: dict[str, Any], said: list[dict[str, Any]], overlaps: NDArray[Any]
) -> dict[str, Any]:
    """The library's result; it numbers the boxes from 1 in the order given."""
    from importlib import import_module

    import numpy as np

    kinds = import_module("faster_coco_eval")
    evaluators = import_module("faster_coco_eval.core.faster_eval_api")
    true = kinds.COCO(copy.deepcopy(truth))
    made = evaluators.COCOeval_faster(true, true.loadRes(copy.deepcopy(said)), "bbox")
    made.params.iouThrs = overlaps
    made.params.areaRng, made.params.areaRngLbl = [[0, 1e10]], ["all"]
    made.params.maxDets = [BOXES]
    made.evaluate()
    made.accumulate()
    return {"matched": made.eval["matched"], "precision": np.asarray(made.eval["precision"])}
