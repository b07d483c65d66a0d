"""The figures of an evaluation, a score for each metric on each output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgepipe import catalog
from edgepipe.validation.evaluating import Evaluation
from edgepipe.validation.evidence import Interval, Score
from edgepipe.validation.metrics.planned import Planned


def scores(planned: Sequence[Planned], found: Evaluation) -> tuple[Score, ...]:
    return tuple(_score(number, one, found) for number, one in enumerate(planned))


def _score(number: int, one: Planned, found: Evaluation) -> Score:
    kind = catalog.metric(one.name)
    rows = found.of("candidate", number)
    beside = found.of("baseline", number) if f"baseline/{number}" in found.rows else None
    return Score(
        metric=one.name,
        output=one.output,
        unit=kind.unit,
        higher_is_better=kind.higher_is_better,
        samples=len(rows),
        candidate=_plain(one, rows),
        baseline=None if beside is None else _plain(one, beside),
    )


def _plain(one: Planned, rows: Any) -> Interval:
    value = one.metric.figure(rows)
    return Interval(value, value, value, 0.0)
