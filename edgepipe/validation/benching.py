"""How fast a model runs here, alone or beside its float one, without any data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from edgepipe.errors import OptionError, UnknownName
from edgepipe.layers import request_for
from edgepipe.request import Request
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.story import Listener, Silent
from edgepipe.validation import baseline as baselines
from edgepipe.validation import gating, limits, measuring, on_chip, opening, validating
from edgepipe.validation.asked import Asked
from edgepipe.validation.evidence import Validation

OWN = (
    "against",
    "baseline",
    "baseline_device",
    "device",
    "threads",
    "gates",
    "allow_undecided",
    "latency_budget",
    "batch",
)
GATES = tuple(name for name in limits.COSTS if name not in limits.SINCE)
"""All that needs no data and no earlier run."""


def bench(
    artifact: str | Path, *, listener: Listener | None = None, **arguments: Any
) -> Validation:
    """Measure an artifact; keywords are those of `edgepipe.validate` about latency and loading.

    The same document as a validation's, with its scores left empty. Its gates are judged;
    `edgepipe.validation.validating.check_gates` raises for those that did not pass.
    """
    asked = _asked(artifact, arguments)
    start = time.perf_counter()
    with (
        Store() as store,
        Session(store, listener or Silent(), retry=asked.request.retry) as session,
    ):
        opened = opening.open_both(session, asked)
        baseline = baselines.choose(session, asked, opened)
        notes = (*baselines.notes(asked, baseline), *opened.notes)
        for text in notes:
            session.listener.note(text)
        chip = None if opened.candidate.device else on_chip.of(opened.earlier)
        found = measuring.asked_for(session, asked, (opened.candidate, baseline), opened.ends)
        found = measuring.with_chip(found, chip)
        absent = {"baseline": opened.absent} if baseline is None else {}
        whole = Validation(
            candidate=validating._side(session, opened.candidate, chip),
            baseline=None if baseline is None else validating._side(session, baseline),
            data=None,
            latency=found.latency,
            memory=found.memory,
            energy=found.energy,
            placement=found.placement,
            absent={**absent, **found.absent},
            notes=(*notes, *found.notes),
            seconds=round(time.perf_counter() - start, 3),
        )
        return replace(whole, gates=gating.judge(asked.limits, whole))


def _asked(artifact: str | Path, arguments: Mapping[str, Any]) -> Asked:
    known = {item.name for item in fields(Request)}
    for name in arguments:
        if name not in known | set(OWN):
            raise UnknownName.of("argument of bench", name, known | set(OWN))
    if not str(artifact):
        raise OptionError("no artifact was named", hint="edgepipe bench ARTIFACT")
    own = {name: value for name, value in arguments.items() if name in OWN}
    others = {name: value for name, value in arguments.items() if name not in OWN}
    own["against"] = str(own.get("against") or "")
    own["batch"] = tuple(own.get("batch") or ())
    own["gates"] = {name: str(value) for name, value in (own.get("gates") or {}).items()}
    for name in own["gates"]:
        if name not in GATES:
            raise UnknownName.of("gate of bench", name, GATES)
    request = request_for(own["against"] or artifact, others)
    asked = Asked(Path(artifact).expanduser(), "", request, latency=True, **own)
    asked.check()
    return asked
