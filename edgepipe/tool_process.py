"""Runs command-line tools line by line, several at a time, and stops them all at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

TERM_SECONDS = 2.0

# prctl(PR_SET_PDEATHSIG) outlives exec, so the tool dies with us even by kill -9. It is set in a
# process of its own: preexec_fn is not safe in a program with threads.
_LAUNCH = """
import ctypes, os, signal, sys
if sys.platform.startswith("linux"):
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Ended:
    """How a tool ended, and all that it said."""

    code: int
    lines: tuple[str, ...]


class Stopped(Exception):
    """`stop` was called while, or before, the tool ran."""


class ToolProcesses:
    """The tools that run now. `stop` may come from another thread."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self,
        command: list[str],
        environment: Mapping[str, str],
        folder: Path,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> Ended:
        """Run to its end, both outputs line by line. Its exit code is for the caller to judge."""
        process = self._start(command, environment, folder)
        lines = []
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip())
                on_line(lines[-1])
            code = process.wait()
        finally:
            _end(process)
            with self._lock:
                self._running.discard(process)
        self.refuse_if_stopped()
        return Ended(code, tuple(lines))

    def _start(
        self, command: list[str], environment: Mapping[str, str], folder: Path
    ) -> subprocess.Popen[str]:
        with self._lock:
            self.refuse_if_stopped()
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", _LAUNCH, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def refuse_if_stopped(self) -> None:
        """Raise Stopped, so that what waits for something else ends too."""
        if self._stopped:
            raise Stopped

    def stop(self) -> None:
        """End all of them, with their children, and start no more."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGTERM)
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(TERM_SECONDS)
            _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        _signal(process, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
