"""Runs a compiled file on an Edge TPU beside its int8 source on the CPU, and compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepipe import catalog, compiled_proof, inputs, making, quantized_proof
from edgepipe.artifact import Artifact, Format, Signature, digest_file
from edgepipe.session import Session
from edgepipe.store import Store

NOT_RUN = {"proven": False, "not_run": compiled_proof.NOT_RUN}


def probe(device: str) -> None:
    """Raises ToolMissing where the library or the device isn't there."""
    with Store() as store, Session(store, device=device) as session:
        ask(session, device)


def ask(session: Session, device: str) -> None:
    session.call(
        catalog.runner(Format.EDGETPU).toolchain,
        "edgepipe.runners.edgetpu_library:probe",
        session.log("device"),
        device=device,
    )


def prove(source: Path, made: Path, device: str) -> dict[str, Any]:
    """On noise: the same integers in, and how near the outputs are."""
    with Store() as store, Session(store, device=device) as session:
        before = _artifact(session, source, Format.TFLITE_QUANTIZED)
        after = _artifact(session, made, Format.EDGETPU)
        proof, _ = quantized_proof.prove(session, before, after)
        return {"device": device, **proof.to_json()}


def _artifact(session: Session, path: Path, format: Format) -> Artifact:
    found = Artifact(path.absolute(), format, digest_file(path))
    described: Signature = making.describe(session, found).signature
    return found.with_signature(inputs.pin(described, []))
