"""Tells the ways apart in which a worker can die: too long, too large, starved, crashed."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepipe import process_memory
from edgepipe.errors import EdgepipeError, StageCrashed, StageOutOfMemory, StageTimedOut

TAIL_LINES = 12
TAIL_BYTES = 1 << 16
STARVED_SHARE = 0.5
"""A process that is killed while it holds more of the machine than this was killed for it."""


@dataclass(frozen=True)
class Limits:
    """What a job may take. `memory` in bytes; None for either is no limit."""

    seconds: float | None = 3600.0
    memory: int | None = field(default_factory=lambda: int(process_memory.machine_total() * 0.9))


class Ended(Exception):
    """A job that ended without an answer: 'died', 'time' or 'memory'."""


@dataclass(frozen=True)
class Remains:
    """What is left of a worker: its exit code, its highest memory, its log, what it said first."""

    code: int | None
    peak: int
    log: Path
    start_log: Path
    unready: str = ""
    """Its Python, where it died before it could take a job."""

    def facts(self) -> dict[str, Any]:
        said = tail(self.log) or tail(self.start_log)
        return {"log": str(self.log), "peak": self.peak, "tail": said}


def examine(ended: Ended, remains: Remains, limits: Limits) -> EdgepipeError:
    """The error that says how the worker died, with its peak memory and its last words."""
    how, facts = str(ended), remains.facts()
    peak = f"peak {process_memory.words(remains.peak)}"
    if how == "time":
        return StageTimedOut(
            f"stopped after its time limit of {limits.seconds:g} s ({peak})",
            hint="raise the limit with --stage-timeout SECONDS.",
            **facts,
        )
    if how == "memory":
        return StageOutOfMemory(
            f"stopped at its memory limit of {process_memory.words(limits.memory or 0)} ({peak})",
            hint="raise the limit with --stage-memory GIB, or use a machine with more memory.",
            **facts,
        )
    if _starved(remains, facts["tail"]):
        return StageOutOfMemory(
            f"the machine ran out of memory ({peak});"
            f" the process ended with {_cause(remains.code)}",
            hint="close other programs, or use a machine with more memory.",
            **facts,
        )
    if remains.unready:
        last = f": {facts['tail'][-1]}" if facts["tail"] else ""
        return StageCrashed(
            f"{remains.unready} does not work as a worker, it ended with"
            f" {_cause(remains.code)}{last}",
            hint="`edgepipe toolchain doctor` says what is wrong with a toolchain.",
            **facts,
        )
    return StageCrashed(
        f"the process ended with {_cause(remains.code)} ({peak})",
        hint=f"the last words of the tool are in {remains.log}.",
        **facts,
    )


def _starved(remains: Remains, said: list[str]) -> bool:
    last = "\n".join(said)
    if "bad_alloc" in last or "out of memory" in last.lower():
        return True
    large = remains.peak > process_memory.machine_total() * STARVED_SHARE
    return remains.code == -signal.SIGKILL and large


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        name = _signal_name(-code)
        words = {"SIGSEGV": "a segmentation fault", "SIGABRT": "an abort", "SIGKILL": "a kill"}
        return f"{words.get(name, 'a signal')} ({name})"
    return f"exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # A real-time signal has no name of its own.
        return f"signal {number}"


def tail(log: Path, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log that say something."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def shorten(text: str, limit: int = 600) -> str:
    """Frameworks put whole graphs into their messages."""
    text = text.strip()
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text)} characters in the log)"
