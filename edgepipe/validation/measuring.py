"""Latency, memory, energy and placement of one model, or of two by turns, in their workers.

All on one sample: what a model computes hardly changes how long it takes.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepipe import given_data, gpu, store_lock, tensors
from edgepipe.artifact import Signature
from edgepipe.errors import EdgepipeError, StageError
from edgepipe.samples import SampleSource
from edgepipe.session import PATIENCE_SECONDS, Session
from edgepipe.settings import cache_root
from edgepipe.store_lock import FileLock, Waiting
from edgepipe.validation import energy, latency, machine, placement
from edgepipe.validation.asked import Asked
from edgepipe.validation.evidence import Energy, Latency, Memory, Placement
from edgepipe.validation.latency import Plan, Side
from edgepipe.validation.on_chip import OnChip
from edgepipe.validation.subject import Subject

ENERGY_SHARE = 0.5
"""Of the budget of latency, for energy on top of it, where there is a counter."""
NEEDED_BY = {
    "max-latency-ratio",
    "max-latency",
    "max-p99",
    "max-latency-growth",
    "max-memory",
    "max-arena",
    "max-energy",
    "min-mapped",
}
"""Gates that can't be judged without this."""
PIXELS = 1
"""Which of the seeded samples is fed where there is no data: numbers from 0 to 1."""


@dataclass(frozen=True)
class Measured:
    """Parts of a `Validation`; `absent` says why one is None."""

    latency: Latency | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    placement: Placement | None = None
    absent: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def asked_for(
    session: Session, asked: Asked, sides: tuple[Subject, Subject | None], ends: Signature
) -> Measured:
    """What a validation was asked to measure beside accuracy; nothing is, where none was."""
    if not wanted(asked):
        return Measured(absent={"latency": "not asked for (--latency measures it)"})
    session.listener.note("measuring latency: leave the machine alone meanwhile")
    feeds = session.folder / "latency-feeds.npz"
    source = SampleSource.of(asked.source()).data if asked.data else None
    if source is None:
        tensors.write(feeds, [SampleSource(seed=asked.request.seed).make(ends)[PIXELS]])
    else:
        tensors.write(feeds, given_data.samples(session, source, ends, 1))
    try:
        return measure(session, *sides, feeds, plan_of(asked))
    except StageError as error:
        if not asked.data:
            raise
        # The accuracy, which may have taken hours, is worth telling all the same.
        return Measured(absent={"latency": f"measuring it failed: {error.message}"})


def with_chip(measured: Measured, chip: OnChip | None) -> Measured:
    """Of a model for a chip that ran elsewhere: what its compiler said of mapping and memory."""
    if chip is None or (measured.placement is not None and measured.placement.fell_back):
        return measured
    memory = measured.memory
    if chip.arena is not None:
        memory = replace(memory or Memory(None), arena=chip.arena)
    absent = {name: why for name, why in measured.absent.items() if name != "placement"}
    return replace(measured, placement=chip.placement, memory=memory, absent=absent)


def wanted(asked: Asked) -> bool:
    if asked.latency is not None:
        return asked.latency
    return bool(asked.latency_budget or asked.batch or NEEDED_BY & set(asked.gates))


def plan_of(asked: Asked) -> Plan:
    """The table of throughput has one thread and all of them, where no number was said."""
    ratio = next((one.value for one in asked.limits if one.name == "max-latency-ratio"), None)
    cores = int(machine.machine()["usable"] or 1)
    return Plan(
        seconds=asked.latency_budget or latency.BUDGET,
        ratio_limit=ratio,
        threads=(asked.threads,) if asked.threads else tuple(dict.fromkeys((1, cores))),
        batches=asked.batch or (1,),
        seed=asked.request.seed,
    )


def measure(
    session: Session, candidate: Subject, baseline: Subject | None, feeds: Path, plan: Plan
) -> Measured:
    """Everything on the same sample. Nothing else of this run should be at work meanwhile."""
    with _alone(session), ExitStack() as stack:

        def started(subject: Subject, name: str) -> Side:
            side = stack.enter_context(Side(session, subject, feeds, name))
            side.start()
            return side

        first = started(candidate, "candidate")
        second = started(baseline, "baseline") if baseline is not None else None
        times = latency.measure(first, second, plan)
        used, why, notes = _energy(first, second, plan)
        where, arena, refused = _where(first)
        absent = {"energy": why} if used is None else {}
        if where is None:
            absent["placement"] = refused or (
                f"{first.subject.kind.__name__.removesuffix('Runner')} doesn't tell where its"
                " operators run"
            )
        memory = Memory(
            int(first.started["memory"]),
            arena,
            None if second is None else int(second.started["memory"]),
        )
        return Measured(times, memory, used, where, absent, notes)


def _alone(session: Session) -> FileLock:
    """One measurement at a time on a machine: `check` has several models under way at once."""
    told = False

    def on_wait(waiting: Waiting) -> None:
        nonlocal told
        if not told and waiting.seconds > PATIENCE_SECONDS:
            told = True
            session.listener.note("waiting for another edgepipe that measures latency")

    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    return store_lock.lock(root / "latency.lock", on_wait=on_wait)


def _energy(
    first: Side, second: Side | None, plan: Plan
) -> tuple[Energy | None, str, tuple[str, ...]]:
    sides = [first] if second is None else [first, second]
    on_gpu = {gpu.is_gpu(side.subject.device) for side in sides}
    if len(on_gpu) > 1:
        return None, "one side runs on the GPU, one on the CPU: their counters differ", ()
    found = energy.find(gpu=on_gpu == {True})
    if found.counter is None:
        return None, found.why, ()
    stretch = plan.seconds * ENERGY_SHARE / (energy.ROUNDS * (len(sides) + 1))

    def run(side: Side) -> energy.Run:
        return lambda seconds: dict(side.call("run_for", seconds=seconds))

    try:
        used, notes = energy.measure(
            found.counter,
            run(first),
            None if second is None else run(second),
            stretch=min(stretch, energy.STRETCH),
        )
    except (OSError, ValueError) as error:
        return None, f"{found.counter.words} stopped telling: {error}", ()
    return used, "", notes


def _where(side: Side) -> tuple[Placement | None, int | None, str]:
    """Last of all: a profile slows down what is profiled, and may fail where running does not."""
    try:
        told: dict[str, Any] = side.call("placement")
    except EdgepipeError as error:
        return None, None, f"asking where its operators run failed: {error.message}"
    return placement.placed(side.subject.device, told["rows"]), told["arena"], ""
