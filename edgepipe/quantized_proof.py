"""The proof of a quantized arrow: on samples that nothing was learnt from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepipe import making
from edgepipe.artifact import QUANTIZED, Artifact, Signature
from edgepipe.learning import Learning
from edgepipe.proof import REVISION as PROOF_REVISION
from edgepipe.proof import Proof
from edgepipe.session import Session
from edgepipe.store import key as store_key

REVISION = 3
"""Raised when `quantized_verify` would judge the same outputs otherwise."""
STORED = ("int8", "uint8", "int16")
"""Types in which a quantized model stores numbers."""


def prove(session: Session, before: Artifact, after: Artifact) -> tuple[Proof, bool]:
    """On samples that nothing was learnt from; on noise only where nothing was learnt at all."""
    learning = session.learning
    ends = before.ends() if learning is None else _in_numbers(before)
    samples = session.samples.key(ends) if learning is None else learning.proof.key(ends)
    tolerance = session.quantized_tolerance
    key = store_key(
        {
            "step": "quantized proof",
            "revision": [PROOF_REVISION, REVISION],
            "before": making.outputs_key(session, before, samples),
            "after": making.outputs_key(session, after, samples),
            "tolerance": vars(tolerance),
        }
    )

    def compare(folder: Path) -> dict[str, Any]:
        from edgepipe import quantized_verify, tensors

        if learning is None:
            feeds, labels = making.feeds_file(session, ends, samples), list[int]()
        else:
            feeds, labels = _held_out_file(session, learning, ends, samples)
        return quantized_verify.compare(
            tensors.read(making.outputs(session, before, samples, feeds)),
            tensors.read(making.outputs(session, after, samples, feeds)),
            after.ends(),
            tolerance,
            labels,
        ).to_json()

    entry = session.fetch(key, compare, f"proof of {after.path.name}")
    return Proof.from_json(entry.facts), entry.kept


def _in_numbers(artifact: Artifact) -> Signature:
    """Ends as the data knows them: integers that stand for numbers are fed those."""
    ends = artifact.ends()
    if artifact.format not in QUANTIZED:
        return ends
    ports = tuple(
        replace(port, dtype="float32") if port.dtype in STORED else port for port in ends.inputs
    )
    return replace(ends, inputs=ports)


def _held_out_file(
    session: Session, learning: Learning, ends: Signature, samples: str
) -> tuple[Path, list[int]]:
    """The samples of a quantized proof as a file for the workers, and their labels."""
    path = session.folder / f"held-out-{samples[:16]}.npz"
    answer = session.call(
        learning.proof.toolchain or "edge",
        "edgepipe.learning:write_proof_samples",
        session.log("held-out"),
        source=learning.proof.to_json(),
        signature=ends.to_json(),
        path=str(path),
    )
    return path, list(answer.value)
