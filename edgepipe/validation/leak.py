"""Samples that the model was calibrated on say too much good of it, and are refused."""

from __future__ import annotations

from edgepipe import given_data
from edgepipe.artifact import Signature
from edgepipe.dataset import DataSource
from edgepipe.errors import SamplesError
from edgepipe.session import Session
from edgepipe.validation.earlier import Earlier

NAMED = 5


def check(
    session: Session, source: DataSource, ends: Signature, earlier: Earlier | None, allowed: bool
) -> tuple[str, ...]:
    """What is to be said where they are allowed. Raises where not."""
    known = set(earlier.calibrated_on if earlier is not None else ()) - {""}
    if not known:
        return ()
    found = given_data.prints(session, source, ends)
    leaked = [name for name, digest in found if digest in known]
    if not leaked:
        return ()
    more = f" and {len(leaked) - NAMED} more" if len(leaked) > NAMED else ""
    words = (
        f"{len(leaked)} of {len(found)} samples of {source.where} are among those that the model"
        f" was calibrated on: {', '.join(leaked[:NAMED])}{more}"
    )
    if allowed:
        return (f"{words}; what they say of accuracy is too good",)
    raise SamplesError(
        words,
        hint="validate on samples that nothing was learnt from, or take these with --allow-leak.",
        leaked=leaked,
    )
