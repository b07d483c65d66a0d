"""What one run holds: the store, the workers, the interpreters, a folder for scratch and logs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from edgepipe import catalog, toolchain
from edgepipe.artifact import Artifact
from edgepipe.post_mortem import Limits
from edgepipe.samples import SampleSource
from edgepipe.sandbox import Answer, Workers
from edgepipe.settings import cache_root
from edgepipe.stage import Options, Stage
from edgepipe.store import Store
from edgepipe.story import Listener, Silent
from edgepipe.toolchain import Interpreter
from edgepipe.verify import Tolerance

LOGS_KEPT = 30


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
    ) -> None:
        self.store = store
        self.listener: Listener = listener or Silent()
        self.samples = samples or SampleSource()
        self.tolerance = tolerance or Tolerance()
        self.settings = {name: dict(values) for name, values in (settings or {}).items()}
        self.limits = limits or Limits()
        self.retry = retry
        self.peak_memory = 0
        self._interpreters: dict[str, Interpreter] = {}
        self._folder: Path | None = None
        self._lock: int = -1
        self._workers: Workers | None = None
        self._logs: Path | None = None
        self._log_count = 0

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
        if self._folder is None:
            runs = cache_root() / "runs"
            runs.mkdir(parents=True, exist_ok=True)
            _sweep(runs)
            self._folder = runs / f"{time.time_ns()}-{os.getpid()}"
            self._folder.mkdir()
            self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self._folder

    @property
    def workers(self) -> Workers:
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

    def interpreters(self) -> dict[str, Interpreter]:
        """Those that were asked for so far."""
        return dict(self._interpreters)

    def options(self, stage: Stage) -> Options:
        return stage.options.from_settings(self.settings.get(stage.name, {}), stage.name)

    def call(self, toolchain_name: str, entry: str, log: Path, **arguments: Any) -> Answer:
        answer = self.workers.call(self.interpreter(toolchain_name), entry, arguments, log)
        self.peak_memory = max(self.peak_memory, answer.peak)
        return answer

    def warm(self, toolchain_name: str, modules: tuple[str, ...]) -> None:
        """Have a worker import what a later step needs."""
        self.workers.warm(self.interpreter(toolchain_name), modules)

    def log(self, what: str) -> Path:
        """A fresh log file; the logs of the last runs are kept."""
        if self._logs is None:
            logs = cache_root() / "logs"
            logs.mkdir(parents=True, exist_ok=True)
            for old in sorted(logs.iterdir())[:-LOGS_KEPT]:
                shutil.rmtree(old, ignore_errors=True)
            self._logs = logs / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{id(self):x}"
            self._logs.mkdir()
        self._log_count += 1
        return self._logs / f"{self._log_count:02}-{what}.log"

    def runner_toolchain(self, artifact: Artifact) -> str:
        return catalog.runner(artifact.format).toolchain


def _sweep(runs: Path) -> None:
    """Remove what killed runs left: a folder whose lock nobody holds."""
    for folder in runs.iterdir():
        with contextlib.suppress(OSError):
            descriptor = os.open(folder / "lock", os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
