"""Runs a subject, beside its baseline, over a data set: parallel, a stretch at a time, resumable.

Each stretch of samples is an entry of the store with the rows that metrics saw, so that a killed
run goes on from there and memory stays flat. The baseline's outputs are kept, too, where they are
small: other candidates are compared with the same ones. Large outputs live in the scratch folder
for as long as their stretch is at work.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe import __version__, process_memory
from edgepipe.artifact import COMPILED, Signature
from edgepipe.dataset import BAD_SHARE, DataSource
from edgepipe.errors import SamplesError
from edgepipe.session import Session
from edgepipe.store import key as store_key
from edgepipe.validation.metrics.planned import Planned
from edgepipe.validation.sight import Sight
from edgepipe.validation.subject import Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

REVISION = 2
"""Raised when the same samples would give other rows."""
STRETCHES, FEWEST, MOST = 20, 16, 500
"""Into how many parts a data set goes, and how many samples a part has; a part at the end that one
core works on alone costs little of the whole."""
STRETCH_BYTES = 64 << 20
"""Of outputs or inputs that a stretch may hold at once."""
SMALL_BYTES = 64 << 10
"""Outputs of one sample that are worth keeping: a segmentation's would fill the disk."""
WORKER_BYTES = 3 << 29
"""What a worker with a framework in it was seen to take."""


@dataclass(frozen=True)
class Task:
    """What is run on what. `ends` are those that the data is read for: the given model's."""

    candidate: Subject
    baseline: Subject | None
    source: DataSource
    ends: Signature
    planned: tuple[Planned, ...] = ()
    sight: Sight = field(default_factory=Sight)
    jobs: int = 0
    """Processes; 0 is one a core, as far as memory goes."""


@dataclass(frozen=True)
class Data:
    """What is known of the samples before any is read."""

    count: int
    labels: tuple[int | None, ...] | None
    names: tuple[str, ...]

    @property
    def labelled(self) -> bool:
        return self.labels is not None


@dataclass
class Evaluation:
    """All rows, in the order of the samples."""

    positions: list[int] = field(default_factory=list)
    rows: dict[str, list[Any]] = field(default_factory=dict)
    """Of each stretch an array, or a list of rows where their lengths differ."""
    passed: list[str] = field(default_factory=list)
    kept: int = 0
    """Stretches that an earlier run had done."""
    seconds: float = 0.0

    def of(self, side: str, number: int) -> Any:
        """Rows of the metric with this number in the task; of one length mostly, so stacked."""
        from edgepipe.validation.outputs import joined

        return joined(self.rows[f"{side}/{number}"])

    def differences(self, output: str) -> NDArray[Any]:
        """See `edgepipe.validation.differing`; a row a sample."""
        import numpy as np

        return np.concatenate(self.rows[f"own/{output}"])


def look(session: Session, source: DataSource, ends: Signature) -> Data:
    """Counts the samples, where their reader can work."""
    arguments = {"data": source.to_json(), "ends": ends.to_json()}
    if source.toolchain:
        entry = "edgepipe.validation.chunk_jobs:facts"
        found = session.call(source.toolchain, entry, session.log("data"), **arguments).value
    else:
        from edgepipe.validation import chunk_jobs

        found = chunk_jobs.facts(**arguments)
    labels = None if found["labels"] is None else tuple(found["labels"])
    return Data(found["count"], labels, tuple(found["names"]))


def evaluate(session: Session, task: Task, count: int) -> Evaluation:
    """All samples of the task. Raises the first error; what is done by then stays in the store."""
    start = time.perf_counter()
    work = _Work(session, task, count)
    work.warm()
    with ThreadPoolExecutor(work.jobs) as pool:
        pending = {pool.submit(work.do, *stretch): stretch for stretch in work.stretches}
        done, made_samples = 0, 0
        try:
            left = set(pending)
            while left:
                ready, left = wait(left, return_when=FIRST_COMPLETED)
                for future in ready:
                    kept = future.result()
                    first, last = pending[future]
                    done += last - first
                    made_samples += 0 if kept else last - first
                work.check_readable(count)
                rate = (time.perf_counter() - start) / made_samples if made_samples else None
                remains = None if rate is None else rate * (count - done)
                session.listener.progressed("evaluate", done, count, remains)
        except BaseException:
            for future in pending:
                future.cancel()
            session.workers.close()  # What runs would be waited for.
            raise
    found = work.gather()
    found.seconds = time.perf_counter() - start
    return found


class _Work:
    """The stretches of one task, each done by a thread that waits for workers."""

    def __init__(self, session: Session, task: Task, count: int) -> None:
        self.session = session
        self.jobs = _jobs(task)
        threads = 1 if self.jobs > 1 else 0
        candidate, baseline = task.candidate, task.baseline
        # One core a process: two that take all cores get into each other's way.
        self.candidate = replace(candidate, threads=candidate.threads or threads)
        self.baseline = baseline and replace(baseline, threads=baseline.threads or threads)
        self.task = task
        self.small = _bytes_of(task.ends.outputs) <= SMALL_BYTES
        size = _stretch_size(task.ends, count)
        self.stretches = [(at, min(at + size, count)) for at in range(0, count, size)]
        self.data = task.source.key(task.ends)
        self._entries: dict[tuple[int, int], Any] = {}
        self._lock = threading.Lock()

    def warm(self) -> None:
        """Let the workers of both sides import at once: a stretch needs one after the other."""
        first, store = self.stretches[0], self.session.store
        if store.find(self._rows_key(first)) is not None:
            return  # Mostly all of them are kept then.
        for subject in (self.baseline, self.candidate):
            if subject is not None and store.find(self._outputs_key(subject, first)) is None:
                found = self.session.interpreter_of(subject)
                count = min(self.jobs, len(self.stretches))
                self.session.workers.warm(found, subject.kind.preload, count)

    def do(self, start: int, stop: int) -> bool:
        """One stretch; whether it was there."""
        stretch = (start, stop)
        what = f"rows of {self.candidate.artifact.path.name}"
        entry = self.session.fetch(
            self._rows_key(stretch), lambda folder: self._see(folder, stretch), what
        )
        with self._lock:
            self._entries[stretch] = entry
        return entry.kept

    def check_readable(self, count: int) -> None:
        """Few samples may be passed over, as everywhere; no more is run once there are more."""
        with self._lock:
            bad = [text for entry in self._entries.values() for text in entry.facts["passed"]]
        if len(bad) > max(1, int(BAD_SHARE * count)) or len(bad) == count:
            raise SamplesError(
                f"{self.task.source.where}: {len(bad)} of {count} samples can't be read (at most"
                f" {BAD_SHARE:.0%} are passed over): {'; '.join(bad[:3])}",
                hint="take them out of the data, or mend them.",
            )

    def gather(self) -> Evaluation:
        from edgepipe.validation import outputs

        found = Evaluation()
        for stretch in self.stretches:
            entry = self._entries[stretch]
            found.kept += entry.kept
            found.positions += entry.facts["positions"]
            found.passed += entry.facts["passed"]
            for name, rows in outputs.read_rows(entry.path / "rows.npz").items():
                found.rows.setdefault(name, []).append(rows)
        return found

    def _see(self, folder: Path, stretch: tuple[int, int]) -> dict[str, Any]:
        scratch = self.session.folder / f"stretch-{stretch[0]}-{os.urandom(4).hex()}"
        scratch.mkdir()
        try:
            feeds = _Feeds(self, stretch, scratch)
            reference = "" if self.baseline is None else self._outputs(stretch, feeds, scratch)
            answer = self._call(
                self.candidate,
                "edgepipe.validation.chunk_jobs:see",
                samples=feeds.of(self.candidate),
                reference=str(reference),
                planned=[one.to_json() for one in self.task.planned],
                sight=self.task.sight.to_json(),
                path=str(folder / "rows.npz"),
            )
            return {
                "positions": answer["positions"],
                "passed": [*feeds.passed, *answer["passed"]],
            }
        finally:
            import shutil

            shutil.rmtree(scratch, ignore_errors=True)

    def _outputs(self, stretch: tuple[int, int], feeds: _Feeds, scratch: Path) -> Path:
        """The file with the baseline's outputs: of the store where they are small."""
        assert self.baseline is not None
        baseline = self.baseline

        def run(folder: Path) -> dict[str, Any]:
            return self._call(
                baseline,
                "edgepipe.validation.chunk_jobs:run",
                samples=feeds.of(baseline),
                path=str(folder / "outputs.npz"),
            )

        if not self.small:
            run(scratch)
            return scratch / "outputs.npz"
        what = f"outputs of {baseline.artifact.path.name}"
        entry = self.session.fetch(self._outputs_key(baseline, stretch), run, what)
        return entry.path / "outputs.npz"

    def _call(self, subject: Subject, entry: str, **arguments: Any) -> dict[str, Any]:
        log = self.session.log(f"evaluate-{subject.artifact.format}")
        return dict(self.session.call_with(subject, entry, log, **arguments).value)

    def _outputs_key(self, subject: Subject, stretch: tuple[int, int]) -> str:
        return store_key(
            {
                "step": "outputs of a stretch",
                "revision": REVISION,
                "edgepipe": __version__,
                "subject": _identity(self.session, subject),
                "data": self.data,
                "stretch": stretch,
            }
        )

    def _rows_key(self, stretch: tuple[int, int]) -> str:
        return store_key(
            {
                "step": "rows of a stretch",
                "candidate": self._outputs_key(self.candidate, stretch),
                "baseline": self.baseline and self._outputs_key(self.baseline, stretch),
                "planned": [one.to_json() for one in self.task.planned],
                **self.task.sight.key(),
            }
        )


class _Feeds:
    """A stretch's samples for a worker: read by itself, or written once where it lacks a reader."""

    def __init__(self, work: _Work, stretch: tuple[int, int], scratch: Path) -> None:
        self.passed: list[str] = []
        self._work = work
        self._stretch = stretch
        self._path = scratch / "feeds.npz"
        self._written: dict[str, Any] | None = None

    def of(self, subject: Subject) -> dict[str, Any]:
        task = self._work.task
        data, ends = task.source.to_json(), task.ends.to_json()
        if self._written is None and task.source.toolchain not in ("", subject.toolchain):
            answer = self._work.session.call(
                task.source.toolchain,
                "edgepipe.validation.chunk_jobs:write_feeds",
                self._work.session.log("feeds"),
                data=data,
                ends=ends,
                stretch=list(self._stretch),
                path=str(self._path),
            )
            self._written = dict(answer.value)
            self.passed = self._written["passed"]
        if self._written is None:
            return {"feeds": "", "data": data, "ends": ends, "stretch": list(self._stretch)}
        found = self._written
        positions, labels = found["positions"], found["labels"]
        return {"feeds": str(self._path), "positions": positions, "labels": labels}


def _identity(session: Session, subject: Subject) -> dict[str, Any]:
    """What of a subject decides its outputs."""
    artifact = subject.artifact
    on_device = artifact.format in COMPILED
    return {
        "format": artifact.format.value,
        "digest": artifact.digest,
        "signature": artifact.ends().to_json(),
        "loading": artifact.loading.key(),
        "runner": subject.runner,
        "device": subject.device,
        "settings": subject.settings,
        "toolchain": session.interpreter(subject.toolchain).fingerprint,
        # What a device gave once says nothing of the one that is plugged in now.
        "run": session.started if on_device else None,
    }


def _jobs(task: Task) -> int:
    if task.jobs:
        return task.jobs
    if task.candidate.artifact.format in COMPILED:
        return 1  # The chip is there once.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    sides = 1 if task.baseline is None else 2
    by_memory = process_memory.machine_total() // (WORKER_BYTES * sides)
    return max(1, min(cores or 1, by_memory))


def _bytes_of(ports: Sequence[Any]) -> int:
    """Of one sample; a shape that isn't known is taken for large."""
    total = 0
    for port in ports:
        if port.shape is None:
            return SMALL_BYTES + 1
        total += 4 * math.prod(size or 1 for size in port.shape)
    return total


def _stretch_size(ends: Signature, count: int) -> int:
    most = STRETCH_BYTES // max(1, _bytes_of(ends.outputs), _bytes_of(ends.inputs))
    return max(1, min(max(FEWEST, min(MOST, -(-count // STRETCHES))), most))
