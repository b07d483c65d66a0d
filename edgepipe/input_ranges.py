"""Which integers the proofs feed an input that nothing in the file bounds, asked and kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgepipe import catalog, making
from edgepipe.artifact import Artifact, Port, Signature
from edgepipe.errors import StageError
from edgepipe.samples import ASKED
from edgepipe.session import Session
from edgepipe.store import key as store_key

FEWER = (1_000, 1)
"""What a model is asked after it died of larger numbers: the last are flags."""

Ranges = dict[str, dict[str, Any]]


def bound(session: Session, artifact: Artifact) -> tuple[Artifact, list[str]]:
    """The artifact with `high` where it refuses numbers, and what is a guess all the same."""
    wide = [port.name for port in artifact.ends().inputs if port.unbounded]
    if not wide or session.samples.data is not None:
        return artifact, []
    samples = session.samples.key(artifact.ends())
    key = store_key(
        {"step": "ranges", "revision": 2, "of": making.outputs_key(session, artifact, samples)}
    )
    entry = session.fetch(
        key, lambda folder: _ask(session, artifact, wide), f"ranges of {artifact.path.name}"
    )
    inputs = tuple(
        replace(port, high=entry.facts[port.name]["high"]) if port.name in wide else port
        for port in artifact.ends().inputs
    )
    guesses = [
        _words(port)
        for port in inputs
        if port.name in wide and not entry.facts[port.name]["refuses"]
    ]
    return artifact.with_signature(Signature(inputs, artifact.ends().outputs)), guesses


def _ask(session: Session, artifact: Artifact, names: list[str]) -> Ranges:
    try:
        return _probe(session, artifact, names, ASKED)
    except StageError:  # It died of a number, which says nothing of the other inputs.
        return {name: _ask_one(session, artifact, name) for name in names}


def _ask_one(session: Session, artifact: Artifact, name: str) -> dict[str, Any]:
    for most in (ASKED, *FEWER):
        try:
            found: dict[str, Any] = _probe(session, artifact, [name], most)[name]
        except StageError:
            continue
        return found
    return {"high": 2, "refuses": False}


def _probe(session: Session, artifact: Artifact, names: list[str], most: int) -> Ranges:
    samples = session.samples.key(artifact.ends())
    answer = session.call(
        catalog.runner(artifact.format).toolchain,
        "edgepipe.index_range:probe",
        session.log(f"ranges-{artifact.format}"),
        artifact=artifact.to_json(),
        names=names,
        feeds=str(making.feeds_file(session, artifact.ends(), samples)),
        most=most,
    )
    return dict(answer.value)


def _words(port: Port) -> str:
    if port.high is None:
        fed = "flags, small numbers and up to a million, below zero too"
    elif port.high == ASKED + 1:
        fed = "flags, small numbers and up to a million"
    else:
        fed = f"0 to {port.high - 1}, as the model died of larger ones, or took too long to ask"
    return (
        f"nothing says which values input {port.name!r} ({port.dtype}) takes: the proofs feed it"
        f" {fed}; give real ones with --samples"
    )
