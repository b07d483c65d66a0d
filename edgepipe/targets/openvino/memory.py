"""What a process takes for an IR: its weights and all that OpenVINO makes of them, measured."""

from __future__ import annotations

from edgepipe import making
from edgepipe.artifact import Artifact, Signature
from edgepipe.errors import StageError
from edgepipe.session import Session
from edgepipe.validation.latency import Side
from edgepipe.validation.subject import Subject


def growth(session: Session, artifact: Artifact, ends: Signature) -> int | None:
    """Bytes by which loading it and one run let a fresh process grow; None where it can't run.

    OpenVINO tells of no arena; its packed weights are neither those of the .bin nor counted
    anywhere. `ends` are those of the model whose samples are fed.
    """
    feeds = making.feeds_file(session, ends, session.samples.key(ends))
    subject = Subject.of(artifact, device=session.device, threads=1)
    try:
        with Side(session, subject, feeds, "memory") as side:
            side.start()
            return int(side.started["memory"])
    except StageError:
        return None
