"""Which class is taken for which, counted on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.artifact import Port
from edgepipe.validation.differing import SAID, TRUE, WANTED
from edgepipe.validation.evaluating import Data, Evaluation
from edgepipe.validation.evidence import Confusion

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_CLASSES = 100
"""A table of more has more cells than anyone reads, and fills the document."""


def tables(
    outputs: Sequence[Port], data: Data, found: Evaluation, compared: bool
) -> tuple[tuple[Confusion, ...], str]:
    """One for each output that says classes, else why there is none."""
    if not data.labelled:
        return (), "the data has no labels"
    made, too_large = [], 0
    for port in outputs:
        rows = found.differences(port.name)
        known = rows[(rows[:, SAID] >= 0) & (rows[:, TRUE] >= 0)]
        if not len(known):
            continue
        said, wanted, true = (known[:, one].astype(np.int64) for one in (SAID, WANTED, TRUE))
        classes = _classes(port, max(said.max(), true.max()) + 1, data)
        if classes > MOST_CLASSES:
            too_large = classes
            continue
        both = _count(true, wanted, classes) if compared else None
        names = [*data.names, *map(str, range(len(data.names), classes))][:classes]
        made.append(Confusion(port.name, tuple(names), _count(true, said, classes), both))
    if made:
        return tuple(made), ""
    if too_large:
        return (), f"a table of {too_large:,} classes is more than anyone reads"
    return (), "no output is a row of scores, or one class"


def _classes(port: Port, seen: int, data: Data) -> int:
    declared = max((size or 1 for size in (port.given_shape() or ())[1:]), default=1)
    return max(int(seen), declared, len(data.names))


def _count(true: NDArray[Any], said: NDArray[Any], classes: int) -> tuple[tuple[int, ...], ...]:
    """Rows are what is true. What a side says beyond the classes, or NaN, is in no column."""
    table = np.zeros((classes, classes), np.int64)
    known = (said >= 0) & (said < classes) & (true < classes)
    np.add.at(table, (true[known], said[known]), 1)
    return tuple(tuple(int(cell) for cell in row) for row in table)
