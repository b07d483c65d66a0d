"""The figures of an evaluation, a score for each metric on each output."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgepipe.session import Session
from edgepipe.validation.evaluating import Evaluation
from edgepipe.validation.evidence import Interval, Score
from edgepipe.validation.metrics.planned import Planned
from edgepipe.validation.sight import Sight
from edgepipe.validation.statistics import Sampling, score


def scores(
    session: Session,
    planned: Sequence[Planned],
    found: Evaluation,
    sampling: Sampling,
    sight: Sight,
) -> tuple[Score, ...]:
    made = []
    for number, one in enumerate(planned):
        rows = found.of("candidate", number)
        beside = found.of("baseline", number) if f"baseline/{number}" in found.rows else None
        if one.metric.toolchain:
            made.append(_elsewhere(session, one, (rows, beside), sampling, sight))
        else:
            made.append(score(one.metric, one.output, rows, beside, sampling))
    return tuple(made)


def _elsewhere(
    session: Session, one: Planned, sides: tuple[Any, Any], sampling: Sampling, sight: Sight
) -> Score:
    """By a library that the core lacks."""
    import numpy as np

    path = session.folder / f"rows-{time.monotonic_ns()}.npz"
    there = {name: rows for name, rows in zip(("candidate", "baseline"), sides, strict=True)
             if rows is not None}  # fmt: skip
    np.savez(path, **there)
    answer = session.call(
        one.metric.toolchain,
        "edgepipe.validation.coco_jobs:score",
        session.log(one.name),
        metric=one.name,
        output=one.output,
        rows=str(path),
        annotations=sight.annotations,
        sampling=asdict(sampling),
    )
    data = dict(answer.value)
    for part in ("candidate", "baseline", "difference"):
        data[part] = None if data[part] is None else Interval(**data[part])
    return Score(**data)
