"""The parent's side of a worker: limits of time and memory, no network, a kill that is whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edgepipe import process_memory
from edgepipe.errors import DiskFull, EdgepipeError, InternalError, StageFailed, ToolchainMissing
from edgepipe.post_mortem import Ended, Limits, Remains, examine, shorten, tail
from edgepipe.toolchain import Interpreter
from edgepipe.worker_environment import environment, mounts

POLL_SECONDS = 0.1
DISK_FULL = os.strerror(errno.ENOSPC)


@dataclass(frozen=True)
class Answer:
    """What a job returned, with what it took."""

    value: Any
    seconds: float
    peak: int


@dataclass(eq=False)
class _Child:
    """A running worker and the pipes that lead to it."""

    process: subprocess.Popen[bytes]
    folder: Path
    results: int
    lifeline: int
    buffer: bytes = b""
    busy: bool = False
    isolated: bool | None = None
    expects: int = 0


class Workers:
    """The workers of one run: started when needed, reused within a toolchain, killed at the end."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder = folder
        self.limits = limits or Limits()
        self.network_cut = True
        self._children: dict[str, list[_Child]] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._closed = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def started(self) -> int:
        return self._count

    def close(self) -> None:
        """Kill every worker with all of its children."""
        with self._lock:
            self._closed = True
            children = [child for group in self._children.values() for child in group]
            self._children.clear()
            # Told apart now: one that is given back from here on is let go of by its thread.
            idle = [child for child in children if not child.busy]
        for child in children:
            if child in idle:
                _let_go(child)
            else:  # The thread that waits for its answer lets go of the pipes.
                _stop(child)

    def warm(self, interpreter: Interpreter, modules: tuple[str, ...], count: int = 1) -> None:
        """Start workers until there are so many, and let them import, without waiting for it."""
        for _ in range(count):
            child = self._take(interpreter, unless_there=count)
            if child is None:
                return
            log = self.folder / f"warm-{interpreter.toolchain}.log"
            # A worker that died already is met at its first real job.
            with contextlib.suppress(OSError):
                _write(child, "edgepipe.work:preload", {"modules": list(modules)}, log)
            self._give_back(child)

    def call(
        self, interpreter: Interpreter, entry: str, arguments: dict[str, Any], log: Path
    ) -> Answer:
        """Run one job. Raises the worker's own error, or what became of its process."""
        child = self._take(interpreter)
        assert child is not None
        peak = [0]
        try:
            _write(child, entry, arguments, log)
            answer = _wait(child, self.limits, peak)
        except BaseException as error:
            self._drop(interpreter.group, child)
            _let_go(child)
            if isinstance(error, Ended):
                raise self._examine(interpreter, child, error, max(peak), log) from None
            if isinstance(error, BrokenPipeError):
                raise self._examine(interpreter, child, Ended("died"), 0, log) from error
            raise
        if child.isolated is False:
            self.network_cut = False
        self._give_back(child)
        return _read_answer(answer, max(peak), log)

    def _take(self, interpreter: Interpreter, unless_there: int = 0) -> _Child | None:
        """An idle worker of the toolchain, or a new one; with `unless_there` a new one only, and
        None where there are so many."""
        with self._lock:
            if self._closed:
                if unless_there:
                    return None
                raise InternalError("the workers of this run are closed")
            group = self._children.setdefault(interpreter.group, [])
            for child in [child for child in group if not child.busy]:
                if child.process.poll() is not None:  # What it started may still be there.
                    group.remove(child)
                    _let_go(child)
                elif not unless_there:
                    child.busy = True
                    return child
            if unless_there and len(group) >= unless_there:
                return None
            self._count += 1
            child = _start(interpreter, self.folder / f"worker-{self._count}")
            child.busy = True
            group.append(child)
            return child

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            child.busy = False
            closed = self._closed
        if closed:
            _let_go(child)

    def _examine(
        self, interpreter: Interpreter, child: _Child, ended: Ended, peak: int, log: Path
    ) -> EdgepipeError:
        unready = str(interpreter.python) if child.isolated is None else ""
        start = child.folder / "start.log"
        return examine(
            ended, Remains(child.process.returncode, peak, log, start, unready), self.limits
        )

    def _drop(self, name: str, child: _Child) -> None:
        with self._lock:
            group = self._children.get(name, [])
            if child in group:
                group.remove(child)


def _start(interpreter: Interpreter, folder: Path) -> _Child:
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    results_read, results_write = os.pipe()
    lifeline_read, lifeline_write = os.pipe()
    settings = {
        "mount": mounts(),
        "network": False,
        "results": results_write,
        "lifeline": lifeline_read,
    }
    script = Path(__file__).with_name("worker.py")
    start = (folder / "start.log").open("wb")
    try:
        process = subprocess.Popen(
            # Unbuffered, in C too: the last words before a crash would be lost.
            [str(interpreter.python), "-s", "-u", str(script), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=start,
            cwd=temporary,
            env=environment(temporary, interpreter.how == "made", interpreter.gpu),
            pass_fds=(results_write, lifeline_read),
            start_new_session=True,
        )
    except OSError as error:
        os.close(results_read)
        os.close(lifeline_write)
        raise ToolchainMissing(
            f"the Python of the toolchain {interpreter.toolchain!r} can't be started:"
            f" {interpreter.python}: {error.strerror}",
            hint="`edgepipe toolchain list` shows where each comes from and whether it is usable.",
            toolchain=interpreter.toolchain,
        ) from error
    finally:
        start.close()
        os.close(results_write)
        os.close(lifeline_read)
    return _Child(process, folder, results_read, lifeline_write)


def _write(child: _Child, entry: str, arguments: dict[str, Any], log: Path) -> None:
    assert child.process.stdin is not None
    child.expects = time.monotonic_ns()
    job = {"id": child.expects, "entry": entry, "arguments": arguments, "log": str(log)}
    child.process.stdin.write(json.dumps(job).encode() + b"\n")
    child.process.stdin.flush()


def _wait(child: _Child, limits: Limits, peak: list[int]) -> dict[str, Any]:
    """The answer to the last job; answers to warm-ups before it are passed over."""
    start = time.monotonic()
    while True:
        line = _next_line(child)
        if line is not None:
            answer: dict[str, Any] = json.loads(line)
            if answer.get("ready"):
                child.isolated = answer["isolated"]
            elif answer["id"] == child.expects:
                return answer
            continue
        peak.append(process_memory.of_tree(child.process.pid))
        if limits.memory is not None and peak[-1] > limits.memory:
            raise Ended("memory")
        if limits.seconds is not None and time.monotonic() - start > limits.seconds:
            raise Ended("time")


def _next_line(child: _Child) -> bytes | None:
    """A whole line, or None when none came in time. Raises Ended when the pipe closed."""
    line, separator, rest = child.buffer.partition(b"\n")
    if separator:
        child.buffer = rest
        return line
    if not _readable(child.results, POLL_SECONDS):
        # What the worker forked may hold its end of the pipe open after it died.
        if child.process.poll() is None or _readable(child.results, 0):
            return None
        raise Ended("died")
    piece = os.read(child.results, 1 << 16)
    if not piece:
        raise Ended("died")
    child.buffer += piece
    return None


def _readable(pipe: int, seconds: float) -> bool:
    poll = select.poll()  # Unlike select(), it takes descriptors above 1023.
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _stop(child: _Child) -> None:
    """Kill the worker's whole process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)
    child.process.wait()


def _let_go(child: _Child) -> None:
    """Kill it and close what leads to it; only for the thread that holds the child."""
    _stop(child)
    if child.process.stdin is not None:
        with contextlib.suppress(OSError):
            child.process.stdin.close()
    os.close(child.results)
    os.close(child.lifeline)
    shutil.rmtree(child.folder / "tmp", ignore_errors=True)


def _read_answer(answer: dict[str, Any], peak: int, log: Path) -> Answer:
    if "error" in answer:
        error = EdgepipeError.from_json(answer["error"])
        error.details.setdefault("log", str(log))
        error.details.setdefault("traceback", answer.get("traceback", ""))
        raise error
    if "failure" in answer:
        failure = answer["failure"]
        if DISK_FULL in failure["message"]:
            raise DiskFull(
                f"no space left while a stage was at work: {shorten(failure['message'])}",
                hint="make room (`edgepipe store gc --max-size 5GB`) and run it again.",
                log=str(log),
            )
        raise StageFailed(
            f"{failure['type']}: {shorten(failure['message'])}",
            type=failure["type"],
            log=str(log),
            peak=max(answer["peak"], peak),
            tail=tail(log),
            traceback=answer["traceback"],
        )
    return Answer(answer["value"], answer["seconds"], max(answer["peak"], peak))


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("edgepipe runs on Linux and macOS; on Windows use WSL 2")
