"""Runs the compiler, or what leads to it, and ends it with all its children when it hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_OUTPUT = 8 << 20
"""Bytes that a compiler may print; a search with -d through a thousand operators takes one MiB."""
POLL_SECONDS = 0.02

# The compiler forks, and its child may compile for ever (google-coral/edgetpu issue 270). When
# edgepipe is gone, by kill -9 too, the kernel tells this process, which ends the whole group.
_SUPERVISE = """
import ctypes, os, resource, signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda number, frame: os.killpg(0, signal.SIGKILL))
if sys.platform.startswith("linux"):
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
code = subprocess.Popen(sys.argv[2:]).wait()
if code < 0:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@dataclass(frozen=True)
class Said:
    """How a program ended, and all that it printed. `why` is set where it was ended."""

    code: int
    text: str
    seconds: float
    why: str = ""

    @property
    def death(self) -> str:
        """The signal that killed it, where one did and it wasn't ours."""
        if self.why or self.code >= 0:
            return ""
        with contextlib.suppress(ValueError):
            return signal.Signals(-self.code).name
        return f"signal {-self.code}"


def run(
    command: Sequence[str],
    log: Path,
    seconds: float,
    given: Path | None = None,
    answer: Path | None = None,
) -> Said:
    """Run to its end or for that long. Its words go to `log`; with `answer`, its output there.

    Words are written by the program itself, so that they are there when it hangs, too.
    """
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        words = stack.enter_context(log.open("wb"))
        output = stack.enter_context(answer.open("wb")) if answer else words
        stdin = stack.enter_context(given.open("rb")) if given else subprocess.DEVNULL
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _SUPERVISE, str(os.getpid()), *command],
            stdin=stdin,
            stdout=output,
            stderr=words,
            cwd=log.parent,
            start_new_session=True,
        )
        try:
            why = _wait(process, log, start, seconds)
        finally:
            _end(process)
    return Said(process.returncode, read(log), time.monotonic() - start, why)


def read(log: Path) -> str:
    """The words, whatever bytes there are."""
    try:
        with log.open("rb") as file:
            return file.read(MOST_OUTPUT).decode("utf-8", "replace")
    except OSError:
        return ""


def _wait(process: subprocess.Popen[bytes], log: Path, start: float, seconds: float) -> str:
    """'' where it ended by itself, else why it has to be ended."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
            return ""
        if time.monotonic() - start > seconds:
            return f"it hung: no end after {seconds:g} s"
        if log.stat().st_size > MOST_OUTPUT:
            return f"it printed without end: more than {MOST_OUTPUT >> 20} MiB"


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole group: a compiler's child goes on compiling when only its parent is killed."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
