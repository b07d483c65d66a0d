"""The whole of a validation, step by step, as `edgepipe.validate` and its command run it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgepipe import __version__, delivery, given_data, manifest, toolchain
from edgepipe.dataset import DataSource
from edgepipe.errors import LimitError
from edgepipe.request import Request
from edgepipe.samples import SampleSource
from edgepipe.session import Session
from edgepipe.shown import Shown
from edgepipe.store import Store
from edgepipe.story import Listener, Silent
from edgepipe.validation import baseline as baselines
from edgepipe.validation import (
    choosing,
    confusion,
    evaluating,
    gating,
    leak,
    measuring,
    on_chip,
    opening,
    scoring,
    sight,
    worst,
)
from edgepipe.validation.asked import Asked
from edgepipe.validation.evaluating import Data, Task
from edgepipe.validation.evidence import Gate, Validation, Verdict
from edgepipe.validation.on_chip import OnChip
from edgepipe.validation.opening import Opened
from edgepipe.validation.statistics import Sampling
from edgepipe.validation.subject import Subject

DOCUMENT = delivery.VALIDATION


@dataclass(frozen=True)
class Validated(Shown):
    """What was seen, and the file that tells of it. `report` is what the file holds."""

    validation: Validation
    report: dict[str, Any]
    path: Path
    allow_undecided: bool = False

    def check(self) -> None:
        """Raises a LimitError with a sentence for each gate that did not pass."""
        check_gates(self.validation.gates, self.allow_undecided, self.path)


def validate(
    artifact: str | Path, *, listener: Listener | None = None, **arguments: Any
) -> Validated:
    """Run an artifact beside its float model on data; see `edgepipe.validation.asked.Asked`.

    Raises a LimitError when a gate is broken, after the document was written.
    """
    asked = Asked.of(artifact, arguments)
    found = run(asked, listener or Silent())
    found.check()
    return found


def run(asked: Asked, listener: Listener) -> Validated:
    """All of it but the judgement of the gates, whose document is worth showing before."""
    folder = folder_of(asked)
    delivery.check_folder(folder)
    found = seen(asked, listener)
    report = document(asked, found)
    return Validated(found, report, _write(folder, report), asked.allow_undecided)


def seen(asked: Asked, listener: Listener) -> Validation:
    """Every step of a validation; each is a call that another file explains."""
    start = time.perf_counter()
    source = asked.source()
    _require_readers(source)
    sight.require(asked)
    with Store() as store, Session(store, listener, retry=asked.request.retry) as session:
        opened = opening.open_both(session, asked)
        source = asked.source(opened.request)
        session.samples = SampleSource.of(source)  # For the proof of a baseline that is converted.
        baseline = baselines.choose(session, asked, opened)
        notes = [*baselines.notes(asked, baseline), *opened.notes, *_look(session, source, opened)]
        notes += leak.check(session, source, opened.ends, opened.earlier, asked.allow_leak)
        data = evaluating.look(session, source, opened.ends)
        looked, ends = sight.prepare(session, asked, source, opened.ends, data)
        planned = choosing.planned(ends, data, baseline is not None, asked, looked)
        for text in notes:
            listener.note(text)
        task = Task(opened.candidate, baseline, source, opened.ends, planned, looked, asked.jobs)
        found = evaluating.evaluate(session, task, data.count)
        scores = scoring.scores(session, planned, found, Sampling(seed=asked.request.seed), looked)
        table, no_table = confusion.tables(
            opened.ends.outputs, data, found, compared=baseline is not None
        )
        absent = {"baseline": opened.absent} if baseline is None else {}
        absent |= {"confusion": no_table} if no_table else {}
        chip = None if opened.candidate.device else on_chip.of(opened.earlier)
        sides = opened.candidate, baseline
        measured = measuring.asked_for(session, asked, sides, opened.ends)
        measured = measuring.with_chip(measured, chip)
        whole = Validation(
            candidate=_side(session, opened.candidate, chip),
            baseline=None if baseline is None else _side(session, baseline),
            data={**_data(source, opened, data, found), **looked.facts()},
            scores=scores,
            confusion=table,
            latency=measured.latency,
            memory=measured.memory,
            energy=measured.energy,
            placement=measured.placement,
            worst=worst.samples(session, task, data, found, asked.worst),
            absent={**absent, **measured.absent},
            notes=(*notes, *found.passed, *measured.notes),
            seconds=round(time.perf_counter() - start, 3),
        )
        return replace(whole, gates=gating.judge(asked.limits, whole, asked.since))


def folder_of(asked: Asked) -> Path:
    """Where the document goes: the folder of the conversion, or one of its own."""
    if asked.out is not None:
        return asked.out
    if (asked.artifact / "report.json").is_file():
        return asked.artifact
    return Path(f"{asked.artifact.stem or 'model'}_validation")


def document(asked: Asked, found: Validation) -> dict[str, Any]:
    import sys

    report = {
        "edgepipe": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": sys.argv,
        "asked": _plain(asked),
        **found.to_json(),
    }
    read: dict[str, Any] = json.loads(json.dumps(report, allow_nan=False, default=str))
    return read


def check_gates(gates: Sequence[Gate], allow_undecided: bool, path: Path) -> None:
    """Raises with a sentence for each gate that did not pass."""
    bad = [gate for gate in gates if gate.verdict is Verdict.FAILED]
    if not allow_undecided:
        bad += [gate for gate in gates if gate.verdict is Verdict.UNDECIDED]
    if bad:
        failed = sum(gate.verdict is Verdict.FAILED for gate in bad)
        words = f"{failed} of {len(gates)} gates failed" if failed else "not enough to tell"
        raise LimitError(
            f"{words}:\n" + "\n".join(f"  {gate.words}" for gate in bad),
            report=str(path),
            gates=[gate.name for gate in bad],
        )


def _look(session: Session, source: DataSource, opened: Opened) -> list[str]:
    """Refuses data that doesn't fit by its first samples, and says what is strange in it."""
    first = SampleSource.of(source).data
    assert first is not None
    found = given_data.look(session, first, opened.ends)
    random = [f"{source.words()}; the figures say little"] if source.random else []
    return list(dict.fromkeys([*found.problems, *found.warnings, *random]))


def _require_readers(source: DataSource) -> None:
    lacking = toolchain.missing([source.toolchain] if source.toolchain else [])
    if lacking is not None:
        raise lacking


def _side(session: Session, subject: Subject, chip: OnChip | None = None) -> dict[str, Any]:
    artifact = subject.artifact
    return {
        "file": artifact.loading.factory or str(artifact.path),
        "format": artifact.format.value,
        "sha256": artifact.digest,
        "size": delivery.model_size(artifact) if chip is None or chip.size is None else chip.size,
        "runner": subject.runtime,
        "device": subject.device or "cpu",
        "threads": subject.threads,
        "toolchain": subject.toolchain,
        "versions": session.interpreter(subject.toolchain).versions,
        "label": subject.label,
        **({} if chip is None or chip.streamed is None else {"streamed_bytes": chip.streamed}),
    }


def _data(
    source: DataSource, opened: Opened, data: Data, found: evaluating.Evaluation
) -> dict[str, Any]:
    return {
        "where": source.words(),
        "random": source.random,
        "digest": source.key(opened.ends),
        "samples": len(found.positions),
        "available": data.count,
        "labelled": data.labelled,
        "label_names": list(data.names),
        "preprocessing": source.preprocessing.to_json(),
        "seconds": round(found.seconds, 3),
        "kept_stretches": found.kept,
    }


def _plain(asked: Asked) -> dict[str, Any]:
    """What was said, as the keywords that say it again."""
    said = {**_said(asked.request, fields(Request)), **_said(asked, fields(Asked))}
    return {
        name: value for name, value in said.items() if name not in ("since", "request", "model")
    }


def _said(given: Any, known: Any) -> dict[str, Any]:
    """What differs from its default; what has none is always said."""
    found = {item.name: (getattr(given, item.name), item) for item in known}
    return {
        name: value
        for name, (value, item) in found.items()
        if value != (item.default if item.default_factory is MISSING else item.default_factory())
    }


def _write(folder: Path, report: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / DOCUMENT
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
    delivery.write_page(path, report)
    manifest.add(folder, [path.name, delivery.PAGE])
    return path
