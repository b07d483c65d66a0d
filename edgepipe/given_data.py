"""The user's data within a run: read where its toolchain is, looked at before any long step."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe import __version__
from edgepipe.artifact import Artifact, Signature
from edgepipe.data.survey import Survey, survey
from edgepipe.dataset import DataSource
from edgepipe.session import Session
from edgepipe.stage import Stage
from edgepipe.store import key as store_key

if TYPE_CHECKING:
    from edgepipe.runner import Tensors


def samples(
    session: Session, source: DataSource, ends: Signature, most: int | None = None
) -> list[Tensors]:
    """A source's samples at once: all, where they are few, or the first ones."""
    from edgepipe import tensors

    if not source.toolchain:
        return [sample.feeds for sample in itertools.islice(source.open(ends), most)]
    path = session.folder / f"data-{time.monotonic_ns()}.npz"
    session.call(
        source.toolchain,
        "edgepipe.data.jobs:write_samples",
        session.log("samples"),
        source=source.to_json(),
        signature=ends.to_json(),
        path=str(path),
        most=most,
    )
    try:
        return list(tensors.read(path))
    finally:
        path.unlink()


def look(session: Session, source: DataSource, ends: Signature) -> Survey:
    """What the data holds, kept under its digest; raises why it can't be fed to the model."""
    facts: dict[str, Any] = {
        "step": "survey",
        "edgepipe": __version__,
        "data": source.key(ends),
        "where": source.where,
        # Without consent the user's function is refused again.
        "trust": source.trust,
    }
    if source.toolchain:
        facts["toolchain"] = session.interpreter(source.toolchain).fingerprint

    def read() -> dict[str, Any]:
        if not source.toolchain:
            return survey(source, ends).to_json()
        answer = session.call(
            source.toolchain,
            "edgepipe.data.jobs:look",
            session.log("look"),
            source=source.to_json(),
            signature=ends.to_json(),
        )
        return dict(answer.value)

    if session.retry:
        session.store.remove(store_key(facts))
    entry = session.fetch(store_key(facts), lambda folder: read(), f"look at {source.where}")
    return Survey.from_json(entry.facts)


def prints(session: Session, source: DataSource, ends: Signature) -> list[tuple[str, str]]:
    """Name and digest of each sample, kept under the digest of the data; none of noise."""
    if source.random:
        return []
    arguments = {"source": source.to_json(), "signature": ends.to_json()}
    facts: dict[str, Any] = {
        "step": "prints",
        "edgepipe": __version__,
        "data": source.key(ends),
        "trust": source.trust,
    }
    if source.toolchain:
        facts["toolchain"] = session.interpreter(source.toolchain).fingerprint

    def read(folder: Path) -> dict[str, Any]:
        if not source.toolchain:
            from edgepipe.data import jobs

            return {"prints": jobs.prints(**arguments)}
        entry, log = "edgepipe.data.jobs:prints", session.log("prints")
        return {"prints": session.call(source.toolchain, entry, log, **arguments).value}

    entry = session.fetch(store_key(facts), read, f"prints of {source.where}")
    return [(name, digest) for name, digest in entry.facts["prints"]]


def readable(
    session: Session, stage: Stage, data: dict[str, Any] | None, artifact: Artifact
) -> dict[str, Any] | None:
    """The data as the stage's toolchain can read it: written down where it lacks the reader."""
    if data is None:
        return None
    source = DataSource.from_json(data["source"])
    if source.toolchain in ("", stage.toolchain):
        return data
    path = session.folder / f"calibration-{time.monotonic_ns()}.npz"
    session.call(
        source.toolchain,
        "edgepipe.learning:write_samples",
        session.log("calibration"),
        source=data["source"],
        signature=artifact.ends().to_json(),
        path=str(path),
    )
    return {**data, "written": str(path)}
