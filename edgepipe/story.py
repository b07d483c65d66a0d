"""What happened in a run, as data: each route, each step, each proof. Reports are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from edgepipe.artifact import Artifact
from edgepipe.errors import EdgepipeError
from edgepipe.proof import Proof

StepStatus = Literal["made", "kept", "failed", "unproven", "left-out"]
RouteStatus = Literal["chosen", "proven", "failed", "not-tried"]


@dataclass
class Step:
    """One stage on one route.

    `seconds` is what the step took in this run, its proof included; `stage_seconds` and
    `peak_memory` are those of the stage when it was made, which may have been an earlier run.
    """

    stage: str
    toolchain: str
    status: StepStatus
    seconds: float = 0.0
    stage_seconds: float = 0.0
    peak_memory: int = 0
    log: str = ""
    proof: Proof | None = None
    proof_kept: bool = False
    error: EdgepipeError | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "toolchain": self.toolchain,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "stage_seconds": round(self.stage_seconds, 3),
            "peak_memory": self.peak_memory,
            "log": self.log,
            "proof": None if self.proof is None else self.proof.to_json(),
            "proof_kept": self.proof_kept,
            "error": None if self.error is None else self.error.to_json(),
            "summary": self.summary,
            "notes": list(self.notes),
        }


@dataclass
class Trial:
    """One route: tried, or why not."""

    route: str
    status: RouteStatus
    steps: list[Step] = field(default_factory=list)
    reason: str = ""
    proof: Proof | None = None
    latency_ms: float | None = None
    seconds: float = 0.0
    made: tuple[Artifact, ...] = ()
    """All before the compiler, where only that failed."""
    speed: dict[str, Any] | None = None
    """Of OpenVINO in int8, when it was chosen: its time beside that of float."""
    memory_bytes: int | None = None
    """Of OpenVINO, where it was timed: what loading and running it took of memory."""

    @property
    def inserted(self) -> int:
        """Ops in the result that a converter added; 0 where that isn't counted."""
        counted = (
            step.summary["inserted"] for step in reversed(self.steps) if "inserted" in step.summary
        )
        return int(next(counted, 0))

    @property
    def ops(self) -> int:
        return int(self.steps[-1].summary.get("ops", 0)) if self.steps else 0

    @property
    def quantized_db(self) -> float | None:
        """How near a quantized result is to the float model; None of a float one."""
        kept = [step.proof for step in self.steps if step.status != "left-out"]
        proofs = [one for one in kept if one is not None and one.quantized and not one.not_run]
        if len(proofs) > 1 and self.proof is not None:
            return self.proof.sqnr_db  # Behind the first, integers were compared with integers.
        return proofs[-1].sqnr_db if proofs else None

    @property
    def missed_limit(self) -> bool:
        """Whether it got to a quantized result, and that was worse than the limit."""
        proof = self.steps[-1].proof if self.steps else None
        return self.status == "failed" and proof is not None and proof.quantized

    @property
    def missed_chip_limit(self) -> bool:
        """Whether all that is wrong is that the compiled model is too large or not all mapped."""
        proof = self.steps[-1].proof if self.steps else None
        return self.status == "failed" and proof is not None and bool(proof.not_run)

    def notes(self) -> tuple[str, ...]:
        """What is to be said of its proofs, each once."""
        proofs = [self.proof, *(step.proof for step in self.steps)]
        found: dict[str, str] = {}
        for note in (note for proof in proofs if proof for note in proof.notes):
            found.setdefault(note.partition(":")[0], note)  # Steps differ in the figures only.
        return tuple(found.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "route": self.route,
            "status": self.status,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "latency_ms": self.latency_ms,
            "speed": self.speed,
            "memory_bytes": self.memory_bytes,
            "end_to_end": None if self.proof is None else self.proof.to_json(),
            "steps": [step.to_json() for step in self.steps],
        }


class Listener(Protocol):
    """Hears of a run while it goes on; from several threads when routes are explored."""

    def route_started(self, route: str) -> None: ...

    def step_started(self, route: str, what: str, toolchain: str) -> None: ...

    def step_ended(self, route: str, step: Step) -> None: ...

    def route_ended(self, trial: Trial) -> None: ...

    def note(self, text: str) -> None: ...

    def progressed(self, what: str, done: int, total: int, left: float | None) -> None:
        """So many of the samples are done; `left` is in seconds, None where nothing tells yet."""


class Silent:
    """Hears and says nothing."""

    def route_started(self, route: str) -> None:
        pass

    def step_started(self, route: str, what: str, toolchain: str) -> None:
        pass

    def step_ended(self, route: str, step: Step) -> None:
        pass

    def route_ended(self, trial: Trial) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def progressed(self, what: str, done: int, total: int, left: float | None) -> None:
        pass
