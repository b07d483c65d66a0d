"""Average precision of boxes that were matched already, over resampled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepipe.validation.metrics.detection import MeanAveragePrecision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.validation.metrics.metric import Rows

RECALLS = np.linspace(0, 1, 101)
"""At which COCO reads the precision."""


@dataclass(frozen=True)
class Matches:
    """The boxes of one side, those with the best scores first. `right` and `ignored` have a line
    for each overlap that is asked for."""

    image: NDArray[np.intp]
    """Its place in the data."""
    category: NDArray[np.intp]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    wanted: NDArray[np.float64]
    """How many boxes of each category are true in each image: a line an image."""


class Matched(MeanAveragePrecision):
    """The metric over rows that hold the place of an image, behind all others for the second
    side: what was found there is in `sides`."""

    def __init__(self, original: MeanAveragePrecision, sides: list[Matches]) -> None:
        self.name = original.name
        self.sides = sides

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        count = len(self.sides[0].wanted)
        side, places = np.divmod(rows[:, 0].astype(np.intp), count)
        images = np.zeros((len(weights), count))
        images[:, places] = weights
        found: Rows = 100 * mean_over_categories(self.sides[int(side[0])], images)
        return found


def mean_over_categories(matches: Matches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of those that are there at all in a resample; `weights` has a column an image."""
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    wanted = weights @ matches.wanted
    for category in range(matches.wanted.shape[1]):
        there = wanted[:, category] > 0
        if not there.any():
            continue
        own = matches.category == category
        each = weights[:, matches.image[own]]
        mean = np.zeros(len(weights))
        for right, ignored in zip(matches.right[:, own], matches.ignored[:, own], strict=True):
            mean += _one(each, right, ignored, wanted[:, category]) / len(matches.right)
        total += np.where(there, mean, 0)
        counted += there
    return np.where(counted > 0, total / np.maximum(counted, 1), np.nan)


def _one(
    weights: NDArray[np.float64],
    right: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    wanted: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The mean precision over the recalls, where precision is the best at that recall or more."""
    if not len(right):
        return np.zeros(len(weights))
    hits = np.cumsum(weights * (right & ~ignored), axis=1)
    misses = np.cumsum(weights * (~right & ~ignored), axis=1)
    recall = hits / np.maximum(wanted, 1)[:, None]
    precision = hits / np.maximum(hits + misses, np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # All lines in one search: each is shifted behind the one before.
    shift = 2.0 * np.arange(len(weights))[:, None]
    places = np.searchsorted((recall + shift).reshape(-1), (RECALLS + shift).reshape(-1))
    places = places.reshape(len(weights), -1) - np.arange(len(weights))[:, None] * len(right)
    inside = places < len(right)
    lines = np.arange(len(weights))[:, None]
    read = np.where(inside, best[lines, np.minimum(places, len(right) - 1)], 0)
    found: NDArray[np.float64] = read.mean(axis=1)
    return found
