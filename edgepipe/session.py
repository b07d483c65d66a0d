"""What one run holds: the store, the workers, the interpreters, a folder for scratch and logs."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgepipe import gpu, toolchain
from edgepipe.gates import Gates
from edgepipe.learning import Learning
from edgepipe.post_mortem import Limits
from edgepipe.proof import QUANTIZED, Tolerance
from edgepipe.samples import SampleSource
from edgepipe.sandbox import Answer, Workers
from edgepipe.settings import cache_root
from edgepipe.stage import Options, Stage
from edgepipe.store import Entry, Make, Store, Waiting
from edgepipe.story import Listener, Silent
from edgepipe.toolchain import Interpreter

if TYPE_CHECKING:
    from edgepipe.validation.subject import Subject

LOGS_KEPT, MOST_LOGS = 30, 1000
"""Runs whose logs stay whatever their age, and the most that stay at all."""
LOG_DAYS = 30
"""Reports cite logs by path, and a report is read for some weeks."""
PATIENCE_SECONDS = 1.0


class Session:
    """The context of a run. Everything in it is let go, and every child killed, at its end."""

    def __init__(
        self,
        store: Store,
        listener: Listener | None = None,
        samples: SampleSource | None = None,
        tolerance: Tolerance | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        limits: Limits | None = None,
        retry: bool = False,
        learning: Learning | None = None,
        quantized_tolerance: Tolerance = QUANTIZED,
        gates: Gates | None = None,
        device: str = "",
        timing: bool = False,
    ) -> None:
        self.store = store
        self.listener: Listener = listener or Silent()
        self.samples = samples or SampleSource()
        self.tolerance = tolerance or Tolerance()
        self.settings = {name: dict(values) for name, values in (settings or {}).items()}
        self.limits = limits or Limits()
        self.retry = retry
        self.learning = learning
        self.quantized_tolerance = quantized_tolerance
        self.gates = gates or Gates()
        self.device = device
        self.timing = timing
        self.started = time.time_ns()
        self.peak_memory = 0
        self._interpreters: dict[str, Interpreter] = {}
        self._making = threading.RLock()
        self._folder: Path | None = None
        self._lock: int = -1
        self._workers: Workers | None = None
        self._logs: Path | None = None
        self._log_numbers = itertools.count(1)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._workers is not None:
            self._workers.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)

    @property
    def folder(self) -> Path:
        """Scratch space of this run, made when first needed, gone at its end."""
        with self._making:  # Routes that are explored at once ask at once.
            if self._folder is None:
                self._folder, self._lock = _claim_folder(cache_root() / "runs")
            return self._folder

    @property
    def workers(self) -> Workers:
        with self._making:
            if self._workers is None:
                self._workers = Workers(self.folder, self.limits)
            return self._workers

    @property
    def workers_started(self) -> int:
        return 0 if self._workers is None else self._workers.started

    @property
    def isolated(self) -> bool | None:
        """Whether the network was cut for every worker; None where none ran."""
        return None if self._workers is None else self._workers.network_cut

    def interpreter(self, name: str) -> Interpreter:
        if name not in self._interpreters:
            self._interpreters[name] = toolchain.find(name)
        return self._interpreters[name]

    def interpreter_of(self, subject: Subject) -> Interpreter:
        """That of its toolchain; its workers see the GPU where the subject is to run on one."""
        found = self.interpreter(subject.toolchain)
        return replace(found, gpu=True) if gpu.is_gpu(subject.device) else found

    def interpreters(self) -> dict[str, Interpreter]:
        """Those that were asked for so far."""
        return dict(self._interpreters)

    def options(self, stage: Stage) -> Options:
        return stage.options.from_settings(self.settings.get(stage.name, {}), stage.name)

    def call(self, toolchain_name: str, entry: str, log: Path, **arguments: Any) -> Answer:
        answer = self.workers.call(self.interpreter(toolchain_name), entry, arguments, log)
        self.peak_memory = max(self.peak_memory, answer.peak)
        return answer

    def call_with(self, subject: Subject, entry: str, log: Path, **arguments: Any) -> Answer:
        """A job that runs this subject, which it is told of."""
        told = {"subject": subject.to_json(), **arguments}
        answer = self.workers.call(self.interpreter_of(subject), entry, told, log)
        self.peak_memory = max(self.peak_memory, answer.peak)
        return answer

    def fetch(self, key: str, make: Make, what: str) -> Entry:
        """From the store; says so when another process is making the same."""
        told = False

        def on_wait(waiting: Waiting) -> None:
            nonlocal told
            if not told and waiting.seconds > PATIENCE_SECONDS:
                told = True
                other = f" (process {waiting.pid})" if waiting.pid else ""
                self.listener.note(f"waiting for another edgepipe{other} that makes the same")

        return self.store.fetch(key, make, what, on_wait)

    def warm(self, toolchain_name: str, modules: tuple[str, ...]) -> None:
        """Have a worker import what a later step needs; a program of its own needs none."""
        if not toolchain_name:
            return
        self.workers.warm(self.interpreter(toolchain_name), modules)

    def log(self, what: str) -> Path:
        """A fresh log file; `_start_logs` says for how long they are kept."""
        with self._making:
            if self._logs is None:
                self._logs = _start_logs(cache_root() / "logs")
        return self._logs / f"{next(self._log_numbers):02}-{what}.log"


def _start_logs(logs: Path) -> Path:
    """A folder for the logs of this run; those that no recent report cites go."""
    logs.mkdir(parents=True, exist_ok=True)
    oldest = time.strftime("%Y%m%dT%H%M%S", time.localtime(time.time() - LOG_DAYS * 86400))
    runs = sorted(logs.iterdir())
    for position, old in enumerate(runs[: -(LOGS_KEPT - 1)], start=1):
        if old.name < oldest or len(runs) - position >= MOST_LOGS - 1:
            shutil.rmtree(old, ignore_errors=True)
    made = logs / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{time.monotonic_ns():x}"
    made.mkdir()
    return made


def _claim_folder(runs: Path) -> tuple[Path, int]:
    """A folder and the lock that says it is in use. One run at a time, or one sweeps another's."""
    runs.mkdir(parents=True, exist_ok=True)
    with (runs.parent / "runs.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        _sweep(runs)
        folder = runs / f"{time.time_ns()}-{os.getpid()}"
        folder.mkdir()
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def _sweep(runs: Path) -> None:
    """Remove what killed runs left: a folder whose lock nobody holds."""
    for folder in runs.iterdir():
        with contextlib.suppress(OSError):
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
