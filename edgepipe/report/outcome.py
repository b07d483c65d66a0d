"""What became of one model in one run, as JUnit, Markdown and `edgepipe check` tell of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepipe.errors import EdgepipeError

Status = Literal["passed", "failed", "undecided", "error"]
LIMIT_EXIT = 5


@dataclass(frozen=True)
class Outcome:
    """`report` is a conversion's, `validation` a validation's document; either may be lacking.

    An error that isn't about limits is told as such: nothing was judged.
    """

    name: str
    report: Mapping[str, Any] | None = None
    validation: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    exit_code: int = 0
    seconds: float = 0.0
    folder: str = ""
    target: str = ""
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(
        name: str,
        report: Mapping[str, Any] | None,
        error: EdgepipeError | None,
        folder: Path | None = None,
    ) -> Outcome:
        """Of a conversion, whose report may hold a validation, too."""
        found = report if report is not None else left_behind(error)
        validation = found.get("validation") if found else None
        told = found or {}
        return Outcome(
            name,
            found,
            validation,
            None if error is None else without_report(error),
            0 if error is None else error.exit_code,
            float(told.get("seconds", 0)) + float((validation or {}).get("seconds", 0)),
            "" if folder is None else str(folder),
            str(told.get("request", {}).get("target", "")),
        )

    @property
    def gates(self) -> list[Mapping[str, Any]]:
        return list(self.validation["gates"]) if self.validation else []

    @property
    def status(self) -> Status:
        verdicts = {gate["verdict"] for gate in self.gates}
        if self.exit_code not in (0, LIMIT_EXIT):
            return "error"
        if "failed" in verdicts:
            return "failed"
        if "undecided" in verdicts:
            return "undecided"
        return "failed" if self.exit_code else "passed"

    @property
    def steps(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Of every route that was tried, in order, with its name."""
        routes = self.report.get("routes", []) if self.report else []
        return [(route["route"], step) for route in routes for step in route.get("steps", [])]

    @property
    def chosen(self) -> str:
        return str(self.report.get("chosen") or "") if self.report else ""

    @property
    def model(self) -> Mapping[str, Any] | None:
        """The last file that was made, or that was validated."""
        if self.report and self.report.get("outputs"):
            last: Mapping[str, Any] = self.report["outputs"][-1]
            return last
        if self.validation:
            side: Mapping[str, Any] = self.validation["candidate"]
            return side
        return None

    def words(self) -> list[str]:
        """One line for each thing that is wrong."""
        bad = [gate["words"] for gate in self.gates if gate["verdict"] != "passed"]
        if bad or self.error is None:
            return bad
        lines = [line.strip() for line in str(self.error["message"]).splitlines() if line.strip()]
        return [" ".join(lines)]


def left_behind(error: EdgepipeError | None) -> Mapping[str, Any] | None:
    """The report that a failed run wrote."""
    path = Path(str(error.details.get("report") or "")) if error is not None else Path()
    if path.name != "report.json" or not path.is_file():
        return None
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def without_report(error: EdgepipeError) -> dict[str, Any]:
    data = error.to_json()
    data["details"] = {
        name: value
        for name, value in data["details"].items()
        if name in ("report", "log", "install", "tail")
    }
    plain: dict[str, Any] = json.loads(json.dumps(data, default=str))
    return plain
