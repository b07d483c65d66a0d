"""Runs the routes of a plan: make, prove, fall back, choose."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgepipe import catalog, compiled_proof, making, process_memory, quantized_proof, toolchain
from edgepipe.artifact import COMPILED, IR, QUANTIZED, Artifact, Format
from edgepipe.errors import (
    BelowLimit,
    EdgepipeError,
    NoRouteLeft,
    SamplesError,
    StageError,
    Unproven,
    UnsupportedModel,
)
from edgepipe.plan import Route
from edgepipe.proof import Proof
from edgepipe.session import Session
from edgepipe.stage import Product
from edgepipe.story import Step, Trial

MEMORY_OF_A_ROUTE = 4 << 30
"""What the frameworks of one route were seen to take, at most, for a model of 100 MB."""
LATENCY_REPEATS = 20
CLEARLY_NEARER_DB = 3
UNTIMED = "not timed: "
DELIVERED = {
    Format.ONNX: "model.onnx",
    Format.TFLITE: "model_float32.tflite",
    Format.OPENVINO: "openvino",
    Format.EDGETPU: "model_edgetpu.tflite",
    Format.ETHOSU: "model_vela.tflite",
}


@dataclass(frozen=True)
class Candidate:
    """A proven end of a route, with everything on the way to it."""

    route: Route
    trial: Trial
    artifacts: tuple[Artifact, ...]

    @property
    def result(self) -> Artifact:
        return self.artifacts[-1]


@dataclass(frozen=True)
class Outcome:
    """The chosen candidate and the whole story."""

    chosen: Candidate
    trials: tuple[Trial, ...]


def run(
    session: Session, source: Artifact, routes: Sequence[Route], explore: bool, forced: bool
) -> Outcome:
    """The best proven result. Raises NoRouteLeft, with the story, when there is none."""
    possible, trials = _split_by_toolchains(routes)
    if explore:
        candidates, tried = _explore(session, source, possible)
    else:
        candidates, tried = _in_turn(session, source, possible, forced)
    trials = [*tried, *trials]
    if not candidates:
        raise _no_route_left(trials)
    if explore and len(candidates) > 1:
        time_on_cpu(session, candidates)
    best = min(candidates, key=_merit)
    best.trial.status = "chosen"
    if session.timing:
        _compare_speed(session, best)
    return Outcome(best, tuple(trials))


def _compare_speed(session: Session, best: Candidate) -> None:
    if best.result.format is Format.OPENVINO_QUANTIZED and best.route.stages:
        from edgepipe.targets.openvino import speed

        best.trial.speed = speed.compare(session, best.route.stages[-1], best.artifacts)


def _split_by_toolchains(routes: Sequence[Route]) -> tuple[list[Route], list[Trial]]:
    possible, impossible = [], []
    for route in routes:
        lacking = toolchain.missing(route.toolchains())
        if lacking is None:
            possible.append(route)
        else:
            reason = f"{lacking.message} ({lacking.hint})" if lacking.hint else lacking.message
            impossible.append(Trial(route.name, "not-tried", reason=reason))
    return possible, impossible


def _in_turn(
    session: Session, source: Artifact, routes: Sequence[Route], forced: bool
) -> tuple[list[Candidate], list[Trial]]:
    """Until one is proven; then the direct one too, where the proven one carries inserted ops."""
    candidates: list[Candidate] = []
    trials: list[Trial] = []
    for route in routes:
        if candidates and not _worth_trying(route, candidates):
            trials.append(Trial(route.name, "not-tried", reason="a better one was proven"))
            continue
        if any(trial.missed_chip_limit for trial in trials):
            trials.append(Trial(route.name, "not-tried", reason="the chip's limits stay missed"))
            continue
        trial, candidate = _try(session, source, route)
        trials.append(trial)
        if candidate is not None:
            candidates.append(candidate)
            if forced:
                break
    return candidates, trials


def _worth_trying(route: Route, candidates: Sequence[Candidate]) -> bool:
    if not route.direct:
        return False
    return all(
        not candidate.route.direct and candidate.trial.inserted > 0 for candidate in candidates
    )


def _explore(
    session: Session, source: Artifact, routes: Sequence[Route]
) -> tuple[list[Candidate], list[Trial]]:
    """All of them, as many at once as the machine's cores and memory allow."""
    from concurrent.futures import ThreadPoolExecutor  # 5 ms that only this needs.

    by_memory = process_memory.machine_total() // MEMORY_OF_A_ROUTE
    at_once = max(1, min(len(routes), os.cpu_count() or 1, by_memory))
    with ThreadPoolExecutor(at_once) as pool:
        pending = [pool.submit(_try, session, source, route) for route in routes]
        try:
            results = [future.result() for future in pending]
        except BaseException:
            for future in pending:
                future.cancel()
            session.workers.close()
            raise
    candidates = [candidate for _, candidate in results if candidate is not None]
    return candidates, [trial for trial, _ in results]


def _try(session: Session, source: Artifact, route: Route) -> tuple[Trial, Candidate | None]:
    trial = Trial(route.name, "failed")
    start = time.perf_counter()
    session.listener.route_started(route.name)
    artifacts = [source]
    try:
        _follow(session, route, trial, artifacts)
    except (StageError, UnsupportedModel) as error:
        last = route.stages[-1] if route.stages else None
        if last is not None and last.target in COMPILED and trial.steps[-1].stage == last.name:
            trial.made = tuple(artifacts[: len(route.stages)])
        trial.reason = error.message
        trial.seconds = time.perf_counter() - start
        session.listener.route_ended(trial)
        return trial, None
    trial.status = "proven"
    for note in trial.notes():
        session.listener.note(note)
    trial.seconds = time.perf_counter() - start
    session.listener.route_ended(trial)
    return trial, Candidate(route, trial, tuple(artifacts))


def _follow(session: Session, route: Route, trial: Trial, artifacts: list[Artifact]) -> None:
    """Walk one route to its end; every arrow made and proven, and what it made added."""
    source = artifacts[0]
    for index in range(len(route.stages)):
        try:
            artifacts.append(_take_step(session, route, index, artifacts[-1], trial))
        except (StageError, UnsupportedModel):
            if trial.steps[-1].status != "left-out":
                raise
    if len(artifacts) == 1:
        # Nothing to convert, but nothing unproven passes either: it must load, run and repeat.
        _, trial.proof, _ = _prove(session, source, source, None)
        if trial.proof.failed:
            raise Unproven(f"the model as given can't be relied on: {trial.proof.why()}")
    if len(artifacts) > 2:
        end = compiled_proof.runnable(session, artifacts)
        _, trial.proof, _ = _prove(session, source, end, None)
        if end is not artifacts[-1]:
            trial.proof = replace(trial.proof, notes=(*trial.proof.notes, compiled_proof.STAND_IN))
        if trial.proof.failed:
            raise Unproven(f"end to end, the result differs: {trial.proof.why()}")


def _take_step(
    session: Session, route: Route, index: int, before: Artifact, trial: Trial
) -> Artifact:
    stage = route.stages[index]
    session.listener.step_started(route.name, stage.name, stage.toolchain)
    start = time.perf_counter()
    step = Step(stage.name, stage.toolchain, "failed")
    trial.steps.append(step)
    try:
        made = making.make(session, stage, before, lambda: _warm_next(session, route, index))
        step.status = "kept" if made.kept else "made"
        step.stage_seconds, step.peak_memory, step.log = made.seconds, made.peak, made.log
        step.summary, step.notes = made.summary, made.product.notes
        after, step.proof, step.proof_kept = _prove(session, before, made.artifact, made.product)
        step.notes += step.proof.notes
        if step.proof.reference_failed and index == 0:
            # Every route begins with this model; another one would end in the same place.
            raise SamplesError(step.proof.why())
        if step.proof.failed:
            step.status = "unproven"
            if step.proof.not_run:
                raise Unproven(f"{stage.name}: {step.proof.why()}")
            tried = [note for note in step.notes if note.startswith("repair, ")]
            words = f" ({tried[-1]})" if tried else ""
            raise Unproven(
                f"{stage.name} changed what the model computes: {step.proof.why()}{words}"
            )
    except EdgepipeError as error:
        error.details.setdefault("stage", stage.name)
        step.error = error
        if stage.target is before.format and isinstance(error, (StageError, UnsupportedModel)):
            step.status = "left-out"  # A cleaner's: the route goes on with what it was given.
        elif step.status != "unproven":
            step.status = "failed"
        step.log = step.log or str(error.details.get("log", ""))
        step.peak_memory = step.peak_memory or int(error.details.get("peak", 0))
        _end_step(session, route, step, start)
        raise
    _end_step(session, route, step, start)
    return after


def _end_step(session: Session, route: Route, step: Step, start: float) -> None:
    """Not in a `finally`: what the user interrupts did not fail, and nothing is said of it."""
    step.seconds = time.perf_counter() - start
    session.listener.step_ended(route.name, step)


def _prove(
    session: Session, before: Artifact, after: Artifact, product: Product | None
) -> tuple[Artifact, Proof, bool]:
    """Exact arrows must be that; of integers it is asked how much they lose."""
    if after.format in COMPILED:
        proof, kept = compiled_proof.prove(session, before, after, product)
        return after, proof, kept
    if after.format in QUANTIZED:
        proof, kept = quantized_proof.prove(session, before, after)
    else:
        after, proof, kept = making.prove(session, before, after, product)
    if session.device and after.format in IR:
        proof = replace(proof, notes=(*proof.notes, f"run on OpenVINO's {session.device.upper()}"))
    return after, proof, kept


def _warm_next(session: Session, route: Route, index: int) -> None:
    """Let the next steps' workers import their frameworks while this one is at work."""
    following = route.stages[index + 1 : index + 3]
    for stage in following:
        session.warm(stage.toolchain, stage.preload)
    runner = catalog.runner(route.stages[index].target)
    session.warm(runner.toolchain, runner.preload)


def warm_first(session: Session, route: Route) -> None:
    """The same before the source was even described."""
    for stage in route.stages[:2]:
        session.warm(stage.toolchain, stage.preload)


def time_on_cpu(session: Session, candidates: Sequence[Candidate]) -> None:
    """Latency of each result on the CPU, one after the other, to break ties or to be told."""
    # The user's samples are of the source's types, and runners store what a result takes.
    ends = candidates[0].artifacts[0].ends()
    samples = session.samples.key(ends)
    for candidate in candidates:
        result = compiled_proof.runnable(session, candidate.artifacts)
        try:
            answer = session.call(
                catalog.runner(result.format).toolchain,
                "edgepipe.work:latency",
                session.log(f"latency-{candidate.route.name}"),
                artifact=result.to_json(),
                feeds=str(making.feeds_file(session, ends, samples)),
                repeats=LATENCY_REPEATS,
                threads=1,
            )
        except StageError as error:  # Proven all the same; only no tie is broken in its favour.
            session.listener.note(f"{candidate.route.name} was not timed: {error.message}")
            candidate.trial.reason = f"{UNTIMED}{error.message}"
            continue
        times = sorted(answer.value)
        candidate.trial.latency_ms = round(times[len(times) // 2] * 1000, 4)
        if result.format in IR:
            from edgepipe.targets.openvino import memory

            candidate.trial.memory_bytes = memory.growth(session, result, ends)


def _merit(candidate: Candidate) -> tuple[float, ...]:
    """Of integers the nearest to the float model first; then fewest inserted ops, then fastest
    where timed, then fewest ops; the first of equals wins."""
    trial = candidate.trial
    near = -((trial.quantized_db or 0.0) // CLEARLY_NEARER_DB)
    untimed = trial.reason.startswith(UNTIMED)
    milliseconds = math.inf if untimed else trial.latency_ms or 0.0
    return (near, trial.inserted, milliseconds, trial.ops if trial.inserted else 0)


def _no_route_left(trials: Sequence[Trial]) -> NoRouteLeft:
    story = "\n".join(f"  {trial.route}: {trial.reason or trial.status}" for trial in trials)
    tried = [trial for trial in trials if trial.status == "failed"]
    last = next((step.log for trial in reversed(tried) for step in trial.steps[::-1]), "")
    missed = [trial for trial in tried if trial.missed_limit]
    kind = BelowLimit if missed else NoRouteLeft
    hints = [f"what the tools printed last is in {last}"] if last else []
    if missed:
        hints.insert(0, "`edgepipe diagnose` says which layers cost it and why")
    error = kind(
        f"every route failed ({len(tried)} tried):\n{story}",
        hint="; ".join(hints),
        trials=[trial.to_json() for trial in trials],
    )
    error.made = next((trial.made for trial in trials if trial.made), ())
    return error


def worth_keeping(artifacts: Sequence[Artifact], precision: str) -> dict[str, Artifact]:
    """What goes to the user's folder, by name; of several ONNX files on the way, the last."""
    names = {**DELIVERED, **quantized_names(precision)}
    return {names[artifact.format]: artifact for artifact in artifacts if artifact.format in names}


def quantized_names(precision: str) -> dict[Format, str]:
    return {
        Format.TFLITE_QUANTIZED: f"model_{precision}.tflite",
        Format.OPENVINO_QUANTIZED: f"openvino_{precision}",
    }
