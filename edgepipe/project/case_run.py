"""One model of `edgepipe check`, in a process of its own: reads its task, runs, prints its outcome.

Its own process, so that models run side by side, one that dies takes no other along, and an
interrupt ends each in order. What it is at goes to standard error, a line a step.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from edgepipe import several_targets
from edgepipe.errors import EdgepipeError, InternalError
from edgepipe.project import accepted
from edgepipe.project.models import Case
from edgepipe.report.outcome import Outcome, left_behind, without_report
from edgepipe.story import Listener

INTERRUPTED = 130
SINCE = ("max-drop-since", "max-latency-growth", "max-size-growth")
"""Gates about the run that was accepted; `max-drop-since-METRIC` is one, too."""


@dataclass(frozen=True)
class Task:
    """All that decides what becomes of a case. Plain data: it goes through a pipe."""

    case: Case
    folder: str
    """Of the edgepipe.toml: the current folder of the process."""
    accepted: Mapping[str, Any] | None = None
    across_models: bool = False
    judge_since: bool = True
    jobs: int = 0
    """Processes that evaluate its samples."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Said on the command line: trust, retry, allow_undecided."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "case": self.case.to_json()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Task:
        return Task(**{**data, "case": Case.from_json(data["case"])})


def is_since(gate: str) -> bool:
    return any(gate == name or gate.startswith(f"{name}-") for name in SINCE)


def run(task: Task, listener: Listener) -> Outcome:
    """The conversion, and the validation where the case has data for one."""
    from edgepipe.validation import after_conversion

    case = task.case
    out = Path(case.arguments["out"])
    outcome = Outcome(case.name, folder=str(out), target=case.target, notes=case.notes)
    try:
        _require_accepted(task)
        result, found = after_conversion.converted(case.model, arguments(task), listener)
        outcome = _of(outcome, result.report)
        if found is not None:
            found.check()
    except EdgepipeError as error:
        return _failed(outcome, error)
    return outcome


def arguments(task: Task) -> dict[str, Any]:
    """Of `convert`."""
    case = task.case
    said = {name: value for name, value in task.more.items() if value}
    undecided = said.pop("allow_undecided", False)
    found = {**case.arguments, **said}
    if case.validation:
        gates = {
            name: value
            for name, value in case.gates.items()
            if task.judge_since or not is_since(name)
        }
        found |= {**case.validation, "gates": gates, "jobs": task.jobs}
        if undecided:
            found["allow_undecided"] = True
        if task.accepted is not None and task.judge_since:
            found["since"] = task.accepted
    return found


def _require_accepted(task: Task) -> None:
    """Before an hour of work."""
    judged = task.judge_since and any(map(is_since, task.case.gates))
    if task.accepted is None or not judged or task.across_models:
        return
    from edgepipe.project.models import request_of
    from edgepipe.request import open_model

    folder = Path(task.folder)
    request = request_of(task.case, folder, trust=bool(task.more.get("trust")))
    if request.factory():
        return  # Its digest is over code and weights that a worker puts together.
    source = open_model(request, Path())
    accepted.require_same_model(folder, task.case.name, task.accepted, source.digest)


def _of(outcome: Outcome, report: Mapping[str, Any]) -> Outcome:
    validation = report.get("validation")
    seconds = float(report["seconds"]) + float((validation or {}).get("seconds", 0))
    return replace(outcome, report=report, validation=validation, seconds=seconds)


def _failed(outcome: Outcome, error: EdgepipeError) -> Outcome:
    report = outcome.report or left_behind(error)
    if report is not None and outcome.report is None:
        outcome = _of(outcome, report)
    return replace(outcome, error=without_report(error), exit_code=error.exit_code)


def main(told: TextIO, answer: TextIO) -> int:
    """Reads a task from one line of `told`, and ends when that ends, for then nobody listens."""
    from edgepipe.cli.progress import Progress

    signal.signal(signal.SIGTERM, _interrupt)
    task = Task.from_json(json.loads(told.readline()))
    threading.Thread(target=_end_with, args=(told,), daemon=True).start()
    try:
        with Progress() as progress:
            outcome = run(task, progress)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        import traceback

        traceback.print_exc()
        bug = InternalError(f"{type(error).__name__}: {error}")
        outcome = _failed(Outcome(task.case.name, target=task.case.target), bug)
    json.dump(asdict(outcome), answer, default=str)
    answer.flush()
    return 0


def _end_with(told: TextIO) -> None:
    """The pipe is closed when the parent ends, by kill -9 too."""
    told.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def worst(codes: list[int]) -> int:
    """As for several targets."""
    return min(codes, key=several_targets.WORST_FIRST.index, default=0)
