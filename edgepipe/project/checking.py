"""`edgepipe check`: all models of an edgepipe.toml, several at a time, and what comes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepipe import __version__, api, catalog, toolchain
from edgepipe.errors import EdgepipeError, InternalError
from edgepipe.project import accepted, case_run, models
from edgepipe.project.case_run import Task
from edgepipe.project.models import Case, Project
from edgepipe.report.outcome import Outcome, without_report

SCHEMA = 1
Told = Callable[[str, str], None]
"""Hears a line of what a model's process says: its name, and the line."""
START = (
    "import sys\nif sys.path[0] == '': del sys.path[0]\n"  # The user's folder, with any names.
    "from edgepipe.project import case_run\nsys.exit(case_run.main(sys.stdin, sys.stdout))"
)
TIMED = ("latency", "p99", "energy")
"""In the names of gates for which a model is measured while nothing else runs."""
PATIENCE = 60
"""Seconds that a process that was interrupted may take to end its workers."""


@dataclass(frozen=True)
class Checked:
    """What became of every model; `accepted` is the file where that was asked for."""

    project: Project
    outcomes: tuple[Outcome, ...]
    seconds: float
    accepted: Path | None = None
    allow_undecided: bool = False

    @property
    def exit_code(self) -> int:
        """The worst, by the order of several targets: 1, 2, 4, 5, 3, 0."""
        return case_run.worst([one.exit_code for one in self.outcomes])

    def to_json(self) -> dict[str, Any]:
        document = {
            "schema": SCHEMA,
            "edgepipe": __version__,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "project": str(self.project.path),
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "accepted": None if self.accepted is None else str(self.accepted),
            "models": [_row(one) for one in self.outcomes],
        }
        plain: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
        return plain


@dataclass(frozen=True)
class Asked:
    """Every field is a keyword of `edgepipe.check`."""

    names: tuple[str, ...] = ()
    jobs: int = 0
    """Models at a time; 0 is one for each two cores."""
    accept: bool = False
    across_models: bool = False
    allow_undecided: bool = False
    trust: bool = False
    retry: bool = False


@dataclass
class _Running:
    """The processes of this run, so that an interrupt reaches each."""

    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: bool = False

    def stop(self) -> None:
        with self.lock:
            self.ended = True
            alive = [one for one in self.processes if one.poll() is None]
        for one in alive:
            with suppress(ProcessLookupError):
                one.send_signal(signal.SIGTERM)
        for one in alive:
            try:
                one.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                one.kill()


def check(names: Sequence[str] = (), *, told: Told | None = None, **arguments: Any) -> Checked:
    """Convert and judge the models of the nearest edgepipe.toml, or those that are named.

    The keywords are the fields of `Asked`. A broken gate raises nothing: `exit_code` is 5 then.
    """
    return run(models.find(), Asked(tuple(names), **arguments), told or (lambda name, line: None))


def run(project: Project, asked: Asked, told: Told) -> Checked:
    start = time.perf_counter()
    cases = project.take(asked.names)
    known = accepted.read(project.folder)
    _require_toolchains(project, cases)
    side_by_side = min(asked.jobs or _jobs(cases), len(cases))
    tasks = [_task(project, case, asked, known, side_by_side) for case in cases]
    running = _Running()
    with ThreadPoolExecutor(side_by_side) as pool:
        try:
            outcomes = list(pool.map(lambda task: _run_one(task, running, told), tasks))
        except BaseException:
            running.stop()
            pool.shutdown(cancel_futures=True)
            raise
    path = _accept(project, known, outcomes) if asked.accept else None
    seconds = time.perf_counter() - start
    return Checked(project, tuple(outcomes), seconds, path, asked.allow_undecided)


def _jobs(cases: Sequence[Case]) -> int:
    """A conversion has a worker at work and the next one loading its framework; where latency is
    judged, one model alone has the machine."""
    if any(map(_timed, cases)):
        return 1
    return max(1, (os.cpu_count() or 1) // 2)


def _timed(case: Case) -> bool:
    asked = [name for name in ("latency", "latency_budget", "batch") if case.validation.get(name)]
    return bool(asked) or any(word in gate for gate in case.gates for word in TIMED)


def _task(
    project: Project, case: Case, asked: Asked, known: Mapping[str, Any], side_by_side: int
) -> Task:
    more = {
        "trust": asked.trust,
        "retry": asked.retry,
        "allow_undecided": asked.allow_undecided,
    }
    relative = [gate for gate in case.gates if case_run.is_since(gate)]
    if relative and case.name not in known and not asked.accept:
        words = f"{', '.join(relative)}: accept a run first, `edgepipe check {case.name} --accept`"
        case = replace(case, notes=(*case.notes, words))
    return Task(
        case,
        str(project.folder),
        known.get(case.name),
        asked.across_models,
        not asked.accept,
        max(1, (os.cpu_count() or 1) // side_by_side),
        more,
    )


def _require_toolchains(project: Project, cases: Sequence[Case]) -> None:
    """All that is missing for any of the models, at once and before the first."""
    lacking = toolchain.missing(toolchains(project, cases))
    if lacking is not None:
        raise lacking


def toolchains(project: Project, cases: Sequence[Case]) -> list[str]:
    """What the models need, each once."""
    names: list[str] = []
    for case in cases:
        # What else is wrong with one model is told in its outcome, and stops no other.
        with suppress(EdgepipeError):
            names += _toolchains(project, case)
    return list(dict.fromkeys(names))


def _toolchains(project: Project, case: Case) -> Iterator[str]:
    request = models.request_of(case, project.folder)
    source = api.format_of(request)
    yield from api.routes_for(request, source)[0].toolchains()
    data = [one for one in (case.validation.get("validate"),) if one]
    for place in (*request.data_sources().values(), *map(request.data, data)):
        if place.toolchain:
            yield place.toolchain
    if data:
        goal = catalog.target(request.target)
        for format in (source, goal.format_of(request.precision)):
            if format in catalog.RUNNERS and catalog.runner(format).toolchain:
                yield catalog.runner(format).toolchain


def _run_one(task: Task, running: _Running, told: Told) -> Outcome:
    """In a process of its own, see `case_run`."""
    name = task.case.name
    with _process(task, running) as process:
        assert process.stdin and process.stdout and process.stderr
        lines: list[str] = []

        def listen(stream: Any) -> None:
            for line in stream:
                lines.append(line.rstrip("\n"))
                told(name, lines[-1])

        listener = threading.Thread(target=listen, args=(process.stderr,), daemon=True)
        listener.start()
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task.to_json(), default=str) + "\n")
            process.stdin.flush()
        answer = process.stdout.read()
        code = process.wait()
        listener.join()
    try:
        return _read(json.loads(answer))
    except ValueError:
        words = f"the process of {name} ended with {code} and without an answer"
        error = InternalError(words, tail=lines[-10:])
        told_of = without_report(error)
        return Outcome(name, error=told_of, exit_code=error.exit_code, target=task.case.target)


@contextmanager
def _process(task: Task, running: _Running) -> Iterator[subprocess.Popen[str]]:
    with running.lock:
        if running.ended:
            raise KeyboardInterrupt
        process = subprocess.Popen(
            [sys.executable, "-c", START],
            cwd=task.folder,
            # A terminal's Ctrl-C is for the parent, which hands it on.
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONUTF8": "1"},
        )
        running.processes.append(process)
    with process:
        yield process


def _read(data: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**data, "notes": tuple(data["notes"])})


def _accept(project: Project, known: Mapping[str, Any], outcomes: Sequence[Outcome]) -> Path:
    """What holds its gates; models that edgepipe.toml has no more are taken out."""
    names = {case.name for case in project.cases}
    good = {one.name: one for one in outcomes if one.status in ("passed", "undecided")}
    kept = {name: entry for name, entry in known.items() if name in names}
    return accepted.write(project.folder, kept, good)


def _row(outcome: Outcome) -> dict[str, Any]:
    steps = [step for route, step in outcome.steps if route == outcome.chosen]
    model = outcome.model
    return {
        "name": outcome.name,
        "target": outcome.target,
        "status": outcome.status,
        "exit_code": outcome.exit_code,
        "seconds": round(outcome.seconds, 3),
        "folder": outcome.folder,
        "sha256": model["sha256"] if model else None,
        "size": model["size"] if model else None,
        "made": [step["stage"] for step in steps if step["status"] == "made"],
        "kept": [step["stage"] for step in steps if step["status"] == "kept"],
        "gates": outcome.gates,
        "error": outcome.error,
        "notes": list(outcome.notes),
    }
