"""What a worker does while latency is measured: it keeps one model loaded and runs it in blocks."""

from __future__ import annotations

import contextlib
import importlib
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.validation.subject import Subject
from edgepipe.worker import peak_memory

if TYPE_CHECKING:
    from edgepipe.runner import Runner, Tensors

CHUNK_SECONDS, CHUNK_RUNS = 0.05, 5
"""How much of a warm-up is looked at in one piece: whichever is more."""
CALM = 3
"""Pieces without an improvement after which it is warm."""
IMPROVES = 0.98

_open: list[tuple[Runner, Tensors]] = []
"""The loaded model and its feeds; they stay from job to job."""


def start(subject: dict[str, Any], feeds: str) -> dict[str, Any]:
    """Load the model and run it once, in a process that has done nothing else before.

    What its framework takes to import is told apart: a device imports it once a day, or has none.
    """
    from edgepipe import tensors

    given = Subject.from_json(subject)
    sample = next(iter(tensors.read(Path(feeds))))
    begun = time.perf_counter()
    for module in given.kind.preload:
        importlib.import_module(module)
    imported = time.perf_counter()
    before = _restart_peak()
    runner = given.open()
    runner.load()
    loaded = time.perf_counter()
    runner.infer(sample)
    ran = time.perf_counter()
    _open[:] = [(runner, sample)]
    return {
        "imports": imported - begun,
        "load": loaded - imported,
        "cold": ran - loaded,
        "memory": max(0, peak_memory() - before),
    }


def warm(seconds: float) -> dict[str, Any]:
    """Run until it no longer gets faster, `seconds` at most; `typical` is what a run takes then."""
    runner, sample = _open[0]
    begun = time.perf_counter()
    runs, calm, best, repeats = 0, 0, float("inf"), 1
    while calm < CALM:
        times = runner.latency(sample, repeats, 0)
        runs += repeats
        typical = statistics.median(times)
        repeats = max(CHUNK_RUNS, round(CHUNK_SECONDS / max(typical, 1e-7)))
        calm = calm + 1 if typical > best * IMPROVES else 0
        best = min(best, typical)
        left = seconds - (time.perf_counter() - begun)
        if left <= 0:
            break
        repeats = max(1, min(repeats, round(left / max(typical, 1e-7))))
    return {"runs": runs, "typical": best, "stable": calm >= CALM}


def block(repeats: int, warmup: int) -> list[float]:
    """Seconds of each run; the first ones, on caches that the other side has filled, are not told.

    `perf_counter` doesn't count in less than a nanosecond or so: no run takes no time.
    """
    runner, sample = _open[0]
    return [max(one, 1e-9) for one in runner.latency(sample, repeats, warmup)]


def rate(seconds: float) -> float:
    """Runs a second, over a stretch of that length, warmed up before."""
    runner, sample = _open[0]
    typical = statistics.median(runner.latency(sample, 3, 2))
    repeats = max(1, round(seconds / max(typical, 1e-7)))
    begun = time.perf_counter()
    runner.latency(sample, repeats, 0)
    return repeats / (time.perf_counter() - begun)


def run_for(seconds: float) -> dict[str, Any]:
    """Run without a pause for so long; how often, and how long it really was."""
    runner, sample = _open[0]
    runs, begun = 0, time.perf_counter()
    repeats = 1
    while (spent := time.perf_counter() - begun) < seconds:
        runner.latency(sample, repeats, 0)
        runs += repeats
        # Pieces of a tenth of a second, so that laying out the feeds doesn't count.
        passed = time.perf_counter() - begun - spent
        repeats = max(1, round(0.1 * repeats / max(passed, 1e-7)))
    return {"runs": runs, "seconds": time.perf_counter() - begun}


def processor_seconds() -> float:
    """What this process took of the processors, to tell others' work from our own."""
    return time.process_time()


def _restart_peak() -> int:
    """The peak counted anew from what is held now. Where the kernel refuses, it is that so far."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def placement() -> dict[str, Any]:
    """Which device each operator ran on, and the bytes of the arena; after all that is timed."""
    runner, sample = _open[0]
    return {"rows": runner.placement(sample), "arena": runner.arena_bytes()}
