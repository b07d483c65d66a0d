"""Samples of a data set a stretch at a time, each reading going on where the last one ended."""

from __future__ import annotations

from collections.abc import Iterator

from edgepipe.data.reader import Sample, Unreadable
from edgepipe.dataset import Dataset
from edgepipe.errors import SamplesError


class Stream:
    """Stretches that ascend are one pass over the data: a packed file is unpacked once.

    The reader iterates over a list that grows with each stretch, and waits at its end.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._places: list[int] = []
        self._found: Iterator[Sample | Unreadable] = iter(())
        self._next = 0
        self._begun = False

    def take(self, start: int, stop: int) -> Iterator[tuple[int, Sample | Unreadable]]:
        """What is at these positions of the data set, each with its position."""
        if not self._begun or start < self._next:
            self._places = []
            self._found = self.dataset.at(self._places)
        self._begun = False  # What raises on the way has ended the reader's pass.
        self._places.extend(self.dataset.indices[start:stop])
        for position in range(start, stop):
            found = next(self._found, None)
            if found is None:
                raise SamplesError(
                    f"{self.dataset.source.where} held {len(self.dataset)} samples at first and"
                    f" ends at {position} now",
                    hint="was it changed meanwhile? Run it again.",
                )
            yield position, found
        self._next, self._begun = stop, True
