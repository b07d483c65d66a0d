"""The parent's side of a worker: limits of time and memory, no network, a kill that is whole."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
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
from edgepipe.errors import EdgepipeError, InternalError, StageFailed
from edgepipe.post_mortem import Ended, Limits, Remains, examine, shorten, tail
from edgepipe.toolchain import Interpreter

PACKAGES = ("edgepipe", "edgepipe.converters", "edgepipe.quantization", "edgepipe.device_tests")
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Answer:
    """What a job returned, with what it took."""

    value: Any
    seconds: float
    peak: int


@dataclass
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
        for child in children:
            _kill(child)

    def warm(self, interpreter: Interpreter, modules: tuple[str, ...]) -> None:
        """Start a worker and let it import, without waiting for it."""
        with self._lock:
            if self._closed or self._children.get(interpreter.toolchain):
                return
        child = self._take(interpreter)
        log = self.folder / f"warm-{interpreter.toolchain}.log"
        with contextlib.suppress(
            OSError
        ):  # A worker that died already is met at its first real job.
            _write(child, "edgepipe.work:preload", {"modules": list(modules)}, log)
        child.busy = False

    def call(
        self, interpreter: Interpreter, entry: str, arguments: dict[str, Any], log: Path
    ) -> Answer:
        """Run one job. Raises the worker's own error, or what became of its process."""
        child = self._take(interpreter)
        peak = [0]
        try:
            _write(child, entry, arguments, log)
            answer = _wait(child, self.limits, peak)
        except BaseException as error:
            self._drop(interpreter.toolchain, child)
            _kill(child)
            if isinstance(error, Ended):
                raise self._examine(child, error, max(peak), log) from None
            if isinstance(error, BrokenPipeError):
                raise self._examine(child, Ended("died"), 0, log) from error
            raise
        if child.isolated is False:
            self.network_cut = False
        child.busy = False
        return _read_answer(answer, max(peak), log)

    def _take(self, interpreter: Interpreter) -> _Child:
        with self._lock:
            if self._closed:
                raise InternalError("the workers of this run are closed")
            group = self._children.setdefault(interpreter.toolchain, [])
            for child in group:
                if not child.busy and child.process.poll() is None:
                    child.busy = True
                    return child
            self._count += 1
            child = _start(interpreter, self.folder / f"worker-{self._count}")
            child.busy = True
            group.append(child)
            return child

    def _examine(self, child: _Child, ended: Ended, peak: int, log: Path) -> EdgepipeError:
        remains = Remains(child.process.returncode, peak, log, child.folder / "start.log")
        return examine(ended, remains, self.limits)

    def _drop(self, toolchain: str, child: _Child) -> None:
        with self._lock:
            group = self._children.get(toolchain, [])
            if child in group:
                group.remove(child)


def mounts() -> dict[str, str]:
    """The folders of edgepipe's packages, wherever this installation keeps them."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise InternalError(
                f"the package {package} is not installed",
                hint="in a checkout, run `pip install -e .` once.",
            )
        found[package] = next(iter(spec.submodule_search_locations))
    return found


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
    flags = ["-I"] if interpreter.how == "made" else ["-s"]
    script = Path(__file__).with_name("worker.py")
    start = (folder / "start.log").open("wb")
    try:
        process = subprocess.Popen(
            [str(interpreter.python), *flags, str(script), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=start,
            cwd=temporary,
            env=_environment(temporary, interpreter.how == "made"),
            pass_fds=(results_write, lifeline_read),
            start_new_session=True,
        )
    finally:
        start.close()
        os.close(results_write)
        os.close(lifeline_read)
    return _Child(process, folder, results_read, lifeline_write)


def _environment(temporary: Path, made: bool) -> dict[str, str]:
    """The user's environment without what would change the frameworks' results or reach outside."""
    environment = dict(os.environ)
    if made:
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            environment.pop(name, None)
    environment.update(
        TMPDIR=str(temporary),
        PYTHONUNBUFFERED="1",
        PYTHONHASHSEED="0",
        KERAS_BACKEND="tensorflow",
        HF_HUB_OFFLINE="1",
        CUDA_VISIBLE_DEVICES="",
        TF_CPP_MIN_LOG_LEVEL=os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        MPLBACKEND="agg",
    )
    return environment


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
    ready, _, _ = select.select([child.results], [], [], POLL_SECONDS)
    if ready:
        piece = os.read(child.results, 1 << 16)
        if not piece:
            raise Ended("died")
        child.buffer += piece
    return None


def _kill(child: _Child) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)
    child.process.wait()
    if child.process.stdin is not None:
        with contextlib.suppress(OSError):
            child.process.stdin.close()
    for pipe in (child.results, child.lifeline):
        with contextlib.suppress(OSError):
            os.close(pipe)


def _read_answer(answer: dict[str, Any], peak: int, log: Path) -> Answer:
    if "error" in answer:
        error = EdgepipeError.from_json(answer["error"])
        error.details.setdefault("log", str(log))
        error.details.setdefault("traceback", answer.get("traceback", ""))
        raise error
    if "failure" in answer:
        failure = answer["failure"]
        raise StageFailed(
            f"{failure['type']}: {shorten(failure['message'])}",
            log=str(log),
            peak=max(answer["peak"], peak),
            tail=tail(log),
            traceback=answer["traceback"],
        )
    return Answer(answer["value"], answer["seconds"], max(answer["peak"], peak))


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("edgepipe runs on Linux and macOS; on Windows use WSL 2")
