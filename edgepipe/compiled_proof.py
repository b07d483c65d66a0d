"""The proof of a compiled file: within the limits, and run on its device where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgepipe import quantized_proof
from edgepipe.artifact import COMPILED, Artifact, Format
from edgepipe.errors import LimitError, MissingError, StageError, UnsupportedModel
from edgepipe.proof import Proof
from edgepipe.session import Session
from edgepipe.stage import Product

NOT_RUN = (
    "not run on a device: inputs and outputs were compared with those of the model that it was"
    " made of, and nothing else of it is proven"
)
STAND_IN = "on the CPU, with the model before compiling as a stand-in for the chip"


def prove(
    session: Session, before: Artifact, after: Artifact, product: Product | None
) -> tuple[Proof, bool]:
    """On the device that was named, beside the model on the CPU; else nothing is run."""
    if after.format is Format.ETHOSU:
        from edgepipe import ethosu_proof

        return ethosu_proof.prove(session, before, after, product)
    if session.device:
        proof, kept = _on_device(session, before, after)
    else:
        proof, kept = Proof(0, notes=(NOT_RUN,), quantized=True, not_run=NOT_RUN), False
    return replace(proof, failures=(*proof.failures, *_worse(session, before, after))), kept


def _on_device(session: Session, before: Artifact, after: Artifact) -> tuple[Proof, bool]:
    """What keeps it from being run there is the proof's failure: the arrow stays unproven."""
    try:
        proof, kept = quantized_proof.prove(session, before, after)
    except (MissingError, StageError) as error:
        why = f"it can't be run on {session.device}: {error.message}"
        hint = f" ({error.hint})" if error.hint else ""
        return Proof(0, failures=(f"{why}{hint}",), not_run=why), False
    return replace(proof, notes=(*proof.notes, f"run on the device {session.device}")), kept


def runnable(session: Session, artifacts: Sequence[Artifact]) -> Artifact:
    """The end of a route, or what stands in for it where that can't be run here."""
    last = artifacts[-1]
    return artifacts[-2] if last.format in COMPILED and not session.device else last


def _worse(session: Session, before: Artifact, after: Artifact) -> tuple[str, ...]:
    from edgepipe.targets.edgetpu import compiled

    gates = session.gates
    if not gates.asked():
        return ()
    try:
        found = compiled.read(after.path, before.path)
    except UnsupportedModel:
        found = compiled.read(after.path)
    try:
        found.check(
            gates.max_streamed_bytes,
            gates.require_full_mapping,
            gates.runtime_version,
            after.path.name,
        )
    except LimitError as error:
        return (error.message,)
    return ()
