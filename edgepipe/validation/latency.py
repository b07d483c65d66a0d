"""Measures latency: both models loaded in workers of their own, run by turns in short blocks."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepipe.errors import EdgepipeError, OptionError
from edgepipe.sandbox import Workers
from edgepipe.session import Session
from edgepipe.validation.evidence import Interval, Latency, Timing, Verdict
from edgepipe.validation.machine import Watch
from edgepipe.validation.ratio_gate import (
    FIRST_LOOK,
    LOOKS,
    MOST_PAIRS,
    is_look,
    judge,
    quantile_interval,
    ratio_interval,
)
from edgepipe.validation.subject import Subject

JOBS = "edgepipe.validation.latency_jobs"
BUDGET = 20.0
"""Seconds."""
WARM_SHARE, RATE_SHARE = 0.1, 0.15
"""Of the budget: the most for warming up each side, and for the table of throughput."""
RATE_SECONDS = 1.0
"""The most for one cell of that table."""
BLOCK_SECONDS, MOST_RUNS = 0.03, 200
"""A block is short beside what changes on a machine, and long beside the switch between two."""
LEAD_SECONDS, MOST_LEAD = 0.005, 2000
"""Run before each block and not counted: the other side's threads may spin on for a while, and
the caches are theirs."""
NARROW = 0.02
"""Half of an interval, relative, from which on more runs tell nothing worth knowing."""
LEGIBLE = 0.1
"""The same where a limit is decided already."""
KEPT = 2000
"""Times in the document."""


@dataclass(frozen=True)
class Plan:
    """How long to measure, and what for. `ratio_limit` ends it as soon as that is decided."""

    seconds: float = BUDGET
    ratio_limit: float | None = None
    threads: tuple[int, ...] = ()
    batches: tuple[int, ...] = (1,)
    """Of the table of throughput, which is made where `threads` are named."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise OptionError(f"--latency-budget takes seconds above 0, received {self.seconds:g}")
        if any(one < 1 for one in (*self.threads, *self.batches)):
            raise OptionError("threads and batches are numbers from 1 on")


@dataclass
class Side:
    """One model in a live worker that does nothing else. A context: the worker ends with it."""

    session: Session
    subject: Subject
    feeds: Path
    name: str
    times: list[float] = field(default_factory=list)
    started: dict[str, float] = field(default_factory=dict)
    warmed: dict[str, Any] = field(default_factory=dict)
    runs: int = 1
    lead: int = 1

    def __enter__(self) -> Side:
        folder = self.session.folder / f"{self.name}-{time.monotonic_ns():x}"
        self.workers = Workers(folder, self.session.limits)
        self.log = self.session.log(f"latency-{self.name}")
        return self

    def __exit__(self, *error: object) -> None:
        self.workers.close()

    def call(self, job: str, **arguments: Any) -> Any:
        interpreter = self.session.interpreter_of(self.subject)
        entry = job if ":" in job else f"{JOBS}:{job}"
        return self.workers.call(interpreter, entry, arguments, self.log).value

    def start(self, feeds: Path | None = None, subject: Subject | None = None) -> None:
        found = self.call(
            "start",
            subject=(subject or self.subject).to_json(),
            feeds=str(feeds or self.feeds),
        )
        self.started = self.started or found

    def warm(self, seconds: float) -> None:
        self.warmed = self.call("warm", seconds=seconds)
        typical = max(self.warmed["typical"], 1e-7)
        self.runs = max(1, min(MOST_RUNS, round(BLOCK_SECONDS / typical)))
        self.lead = max(1, min(MOST_LEAD, round(LEAD_SECONDS / typical)))

    def block(self) -> float:
        """What a run of one block takes, typically."""
        times = self.call("block", repeats=self.runs, warmup=self.lead)
        self.times += times
        return float(statistics.median(times))

    def processor_seconds(self) -> float:
        return float(self.call("processor_seconds"))

    def timing(self, throughput: Sequence[dict[str, Any]] = ()) -> Timing:
        return timing_of(self.times, self.started.get("load"), self.started.get("cold"), throughput)


def timing_of(
    times: Sequence[float],
    load: float | None = None,
    cold: float | None = None,
    throughput: Sequence[dict[str, Any]] = (),
) -> Timing:
    """The figures of times in the order of measurement."""
    import numpy as np

    p50, p90, p95, p99 = (float(one) for one in np.quantile(times, [0.5, 0.9, 0.95, 0.99]))
    kept = [times[place] for place in _spread(len(times), KEPT)]
    return Timing(
        p50, p90, p95, p99, float(np.mean(times)), len(times), load, cold, tuple(kept),
        tuple(throughput),
    )  # fmt: skip


def _spread(count: int, most: int) -> list[int]:
    """At most so many places, evenly apart and in order."""
    if count <= most:
        return list(range(count))
    return [place * count // most for place in range(most)]


def by_turns(candidate: Side, baseline: Side, plan: Plan) -> tuple[Interval | None, list[float]]:
    """Pairs of blocks in an order that is drawn, until the ratio is known or the time is over."""
    draw = random.Random(plan.seed)
    end = time.monotonic() + plan.seconds
    pairs: list[float] = []
    found: Interval | None = None
    while len(pairs) < MOST_PAIRS:
        sides = [candidate, baseline]
        draw.shuffle(sides)
        took = {side.name: side.block() for side in sides}
        pairs.append(math.log(took[candidate.name] / took[baseline.name]))
        over = time.monotonic() >= end
        if is_look(len(pairs)) or over:
            # Where the time was over before the first look, this is the only one.
            only = over and len(pairs) < FIRST_LOOK
            found = narrowed(found, ratio_interval(pairs, 1 if only else LOOKS))
            if over or _enough(found, plan):
                break
    return found, pairs


def narrowed(before: Interval | None, now: Interval | None) -> Interval | None:
    """What two looks say together: all of them hold at once, so the truth is where they overlap."""
    if before is None or now is None:
        return now or before
    low, high = max(before.low, now.low), min(before.high, now.high)
    if low > high:  # One of them missed it, and the later one knows more.
        return now
    return replace(now, value=min(max(now.value, low), high), low=low, high=high)


def _enough(found: Interval | None, plan: Plan) -> bool:
    if found is None:
        return False
    half = max(found.high / found.value, found.value / found.low) - 1
    if plan.ratio_limit is None:
        return half <= NARROW
    decided = judge(found, plan.ratio_limit) is not Verdict.UNDECIDED
    return decided and half <= LEGIBLE


def alone(side: Side, plan: Plan) -> None:
    """Blocks of one model until the half of its latencies is known well, or the time is over."""
    end, blocks = time.monotonic() + plan.seconds, 0
    while blocks < MOST_PAIRS:
        side.block()
        blocks += 1
        if time.monotonic() >= end:
            return
        if is_look(blocks):
            found = quantile_interval(side.times, 0.5)
            if found is not None and (found.high - found.low) / 2 <= NARROW * found.value:
                return


def measure(
    candidate: Side, baseline: Side | None, plan: Plan, watch: Watch | None = None
) -> Latency:
    """The latency of sides that have started, or of one. They stay, for what is measured next."""
    sides = [candidate] if baseline is None else [candidate, baseline]
    watch = watch or Watch()
    begun = time.monotonic()
    before = time.process_time() + sum(side.processor_seconds() for side in sides)
    for side in sides:
        side.warm(plan.seconds * WARM_SHARE)
    table = len(plan.threads) * len(plan.batches)
    left = plan.seconds * (1 - (RATE_SHARE if table else 0)) - (time.monotonic() - begun)
    shorter = replace(plan, seconds=max(left, plan.seconds / 2))
    ratio: Interval | None = None
    pairs: list[float] = []
    if baseline is None:
        alone(candidate, shorter)
    else:
        ratio, pairs = by_turns(candidate, baseline, shorter)
    own = time.process_time() + sum(side.processor_seconds() for side in sides) - before
    facts, notes = watch.end(own)
    facts["seconds"] = round(time.monotonic() - begun, 2)
    facts["threads"] = {side.name: side.subject.threads for side in sides}
    facts["imports"] = {side.name: round(side.started.get("imports", 0.0), 3) for side in sides}
    facts["warm_up"] = {side.name: side.warmed["runs"] for side in sides}
    if pairs:
        facts["pairs"] = len(pairs)
    rows, refused = throughput(candidate, plan) if table else ([], [])
    return Latency(
        candidate.timing(rows),
        None if baseline is None else baseline.timing(),
        ratio,
        facts,
        (*notes, *_notes(sides, ratio, len(pairs)), *refused),
    )


def _notes(sides: Sequence[Side], ratio: Interval | None, pairs: int) -> list[str]:
    found = []
    for side in sides:
        if not side.warmed["stable"]:
            found.append(f"the {side.name} was still getting faster when its warm-up ended")
        if len(side.times) < 100:
            found.append(f"p99 of the {side.name} is that of {len(side.times)} runs only")
    if len(sides) > 1 and ratio is None:
        found.append(
            f"{pairs} pairs of blocks fitted into the time, too few for a ratio with an interval"
        )
    if len({side.subject.threads for side in sides}) > 1:
        found.append("the two were given different numbers of threads")
    return found


def throughput(side: Side, plan: Plan) -> tuple[list[dict[str, Any]], list[str]]:
    """Inferences a second by threads and batch, each number of threads in a fresh process.

    A batch that the file doesn't take is told in a note: most TFLite files are made for one.
    """
    slices = len(plan.threads) * len(plan.batches)
    seconds = min(RATE_SECONDS, plan.seconds * RATE_SHARE / slices)
    rows: list[dict[str, Any]] = []
    refused: dict[str, None] = {}
    for threads in plan.threads:
        subject = replace(side.subject, threads=threads)
        with Side(side.session, subject, side.feeds, side.name) as other:
            for batch in plan.batches:
                try:
                    other.start(_repeated(side, batch), batched(subject, batch))
                    rate = other.call("rate", seconds=seconds) * batch
                except EdgepipeError as error:
                    if batch == 1:
                        raise
                    refused[f"it takes no batch of {batch}: {error.message}"] = None
                    continue
                rows.append({"threads": threads, "batch": batch, "per_second": round(rate, 2)})
    return rows, list(refused)


def _repeated(side: Side, count: int) -> Path:
    """The feeds of a side, so many of them along the first axis."""
    from edgepipe import tensors

    if count == 1:
        return side.feeds
    made = side.workers.folder.with_name(f"{side.name}-batch-{count}.npz")
    sample = next(iter(tensors.read(side.feeds)))
    tensors.write(made, [{name: array.repeat(count, 0) for name, array in sample.items()}])
    return made


def batched(subject: Subject, count: int) -> Subject:
    """The same model with its inputs pinned to so many samples at once."""
    artifact = subject.artifact
    ends = artifact.ends()
    inputs = []
    for port in ends.inputs:
        shape = list(port.shape or ())
        if shape and count > 1:
            place = port.permutation.index(0) if port.permutation else 0
            shape[place] = (shape[place] or 1) * count
        inputs.append(replace(port, shape=tuple(shape) if port.shape is not None else None))
    return replace(subject, artifact=artifact.with_signature(replace(ends, inputs=tuple(inputs))))
