"""The figures of an evaluation, a score for each metric on each output."""

from __future__ import annotations

from collections.abc import Sequence

from edgepipe.validation.evaluating import Evaluation
from edgepipe.validation.evidence import Score
from edgepipe.validation.metrics.planned import Planned
from edgepipe.validation.statistics import Sampling, score


def scores(planned: Sequence[Planned], found: Evaluation, sampling: Sampling) -> tuple[Score, ...]:
    return tuple(_score(number, one, found, sampling) for number, one in enumerate(planned))


def _score(number: int, one: Planned, found: Evaluation, sampling: Sampling) -> Score:
    rows = found.of("candidate", number)
    beside = found.of("baseline", number) if f"baseline/{number}" in found.rows else None
    return score(one.metric, one.output, rows, beside, sampling)
