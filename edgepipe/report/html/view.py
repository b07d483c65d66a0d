"""What the sections of a page read: the report, its validation, and what lies beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgepipe.report import quantized
from edgepipe.report.ethosu import figures_of
from edgepipe.targets.ethosu.figures import Figures

REPORT, VALIDATION, DIAGNOSIS = "report.json", "validation.json", "diagnosis.json"
Data = Mapping[str, Any]


@dataclass(frozen=True)
class View:
    """`report` is empty where only a validation is at hand; `folder` may be another one's by now,
    so that files in it count only with the digest that the report says."""

    report: Data
    validation: Data | None = None
    diagnosis: Data | None = None
    folder: Path | None = None
    source: str = "report.json"

    @staticmethod
    def of(data: Data, folder: Path | None, source: str) -> View:
        """Of a `report.json` or a `validation.json`, and of the other one if it lies beside it."""
        if "candidate" in data:
            whole = _beside(folder, REPORT, lambda one: _digests(one) >= {_candidate(data)})
            report = whole if whole is not None else _as_report(data)
            validation: Data | None = data
        else:
            report = _as_converted(data) if "sources" in data else data
            validation = data.get("validation") or _beside(
                folder, VALIDATION, lambda one: _candidate(one) in _digests(report)
            )
        diagnosis = report.get("diagnosis") or _beside(
            folder, DIAGNOSIS, lambda one: bool(set(one["digests"]) & _digests(report))
        )
        return View(report, validation, diagnosis, folder, source)

    @cached_property
    def chosen(self) -> Data | None:
        routes = self.report.get("routes", ())
        return next((one for one in routes if one["status"] == "chosen"), None)

    @cached_property
    def steps(self) -> list[Data]:
        """Those of the route that was chosen."""
        return list(self.chosen["steps"]) if self.chosen else []

    @cached_property
    def outputs(self) -> list[Data]:
        return list(self.report.get("outputs", ()))

    @cached_property
    def quantized_proof(self) -> Data | None:
        return quantized.proof_of(self.report) if self.report.get("routes") else None

    @cached_property
    def proof(self) -> Data | None:
        """Of the result against the float model."""
        if self.quantized_proof:
            return self.quantized_proof
        if self.chosen is None:
            return None
        every = [self.chosen.get("end_to_end"), *(step.get("proof") for step in self.steps)]
        ran: list[Data] = [one for one in every if one and not one.get("not_run")]
        return ran[0] if ran else None

    @cached_property
    def edgetpu(self) -> list[Data]:
        """What its compiler made, or what was foretold; several of `edgepipe compile`."""
        found = self.report.get("edgetpu") or []
        return list(found) if isinstance(found, list) else [found]

    @cached_property
    def vela(self) -> Figures | None:
        """What Vela said; None of a report of an earlier edgepipe that has less of it."""
        try:
            return figures_of(self.report) if self.chosen else None
        except KeyError:
            return None

    @property
    def name(self) -> str:
        """The model, as the user called it."""
        given = self.report.get("source", {}).get("path") or self.report.get("model")
        if not given and self.validation:
            given = self.validation["candidate"].get("file") or "a model"
        return str(given).rstrip("/").rsplit("/", 1)[-1]

    def part(self, name: str) -> Any:
        """A part of the validation; None where there is none or it was not measured."""
        return self.validation.get(name) if self.validation else None

    def absent(self, name: str) -> str:
        """Why that part wasn't measured."""
        return str(self.validation.get("absent", {}).get(name, "")) if self.validation else ""


def _as_converted(data: Data) -> Data:
    """A report of `edgepipe compile` in the form of the others; its outputs are names only."""
    first = data["sources"][0]
    if data["compiled"]:
        facts = [data]
    else:
        why = (data.get("error") or {}).get("message", "")
        foretold = data.get("foretold", {}).values()
        facts = [{"compiled": False, "why": why, "foretold": one} for one in foretold]
    source = {"path": first["path"], "format": "tflite-quantized", "sha256": first["sha256"]}
    return {**data, "source": source, "outputs": [], "edgetpu": facts, "request": data["options"]}


def _as_report(validation: Data) -> Data:
    """What a validation alone says of how it was made."""
    named = ("command", "created", "edgepipe", "seconds")
    found = {name: validation[name] for name in named if name in validation}
    return {**found, "request": validation.get("asked", {})}


def _beside(folder: Path | None, name: str, belongs: Callable[[Data], bool]) -> Data | None:
    """Another document in the folder, if it tells of the same files."""
    try:
        if folder is None or not (folder / name).is_file():
            return None
        found: Data = json.loads((folder / name).read_text(encoding="utf-8"))
        return found if belongs(found) else None
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return None


def _candidate(validation: Data) -> str:
    return str(validation["candidate"].get("sha256"))


def _digests(report: Data) -> set[str]:
    return {str(one["sha256"]) for one in report.get("outputs", ())}
