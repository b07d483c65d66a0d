"""Chooses the calibration samples that a repair learns from, and others that it is judged on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.tflite import loading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feeds = Sequence[NDArray[Any]]

LEAST, MOST_JUDGED, MOST_LEARNT = 16, 256, 128
JUDGED_NUMBERS = 4 << 20
"""Numbers of the largest tensor over all samples that tries are judged on: each is run on them."""
LEARNT_NUMBERS = 64 << 20
"""The same of those that are learnt from, which are held in memory together."""


@dataclass(frozen=True)
class Chosen:
    """Feeds in the order and the layouts of the file."""

    learnt: Sequence[Feeds] = ()
    judged: Sequence[Feeds] = ()

    @property
    def few(self) -> Sequence[Feeds]:
        """Enough for a mean or a range."""
        count = min(LEAST, len(self.learnt))
        return [self.learnt[number * len(self.learnt) // count] for number in range(count)]


def choose(path: Path, samples: Iterable[Feeds], count: int) -> Chosen:
    """Spread over the data, which often lie sorted by class; all for both where they are few."""
    largest = max((one.elements for one in loading.load(path).main.all_tensors()), default=1)
    judged = min(max(JUDGED_NUMBERS // largest, LEAST), MOST_JUDGED)
    learnt = min(max(LEARNT_NUMBERS // largest, LEAST), MOST_LEARNT)
    taken = min(count, judged + learnt)
    step = max(1, count // max(taken, 1))
    found = list(itertools.islice(samples, 0, step * taken, step))
    if len(found) < 2 * LEAST:
        return Chosen(found, found)
    judged = min(judged, len(found) // 2)
    places = {number * len(found) // judged for number in range(judged)}
    return Chosen(
        [one for place, one in enumerate(found) if place not in places],
        [one for place, one in enumerate(found) if place in places],
    )
