"""The report of the conversion that made an artifact: model, layouts, preprocessing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepipe.artifact import COMPILED, Format, Signature
from edgepipe.data.preprocessing import read_file
from edgepipe.errors import ModelNotFound, PathError
from edgepipe.identify import identify
from edgepipe.request import digest_model

REPORT = "report.json"


@dataclass(frozen=True)
class Earlier:
    """A report of `convert`, and which of its outputs is meant."""

    folder: Path
    report: dict[str, Any]
    output: dict[str, Any]

    @property
    def model(self) -> Path:
        return self.folder / str(self.output["path"])

    @property
    def signature(self) -> Signature:
        return Signature.from_json(self.output["signature"])

    @property
    def source_ends(self) -> Signature:
        return Signature.from_json(self.report["source"]["signature"])

    @property
    def request(self) -> dict[str, Any]:
        """What was asked of the conversion, as far as it was no default."""
        return dict(self.report.get("request", {}))

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        """What was done to the data then, as a table."""
        for kind in ("samples", "calibration"):
            found = (self.report.get(kind) or {}).get("preprocessing")
            if found:
                return dict(found)
        said = self.request.get("preprocessing")
        if isinstance(said, str) and Path(said).is_file():
            return read_file(Path(said))
        return dict(said) if isinstance(said, dict) else None

    @property
    def calibrated_on(self) -> list[str]:
        """A digest of each sample that something was learnt from."""
        return list((self.report.get("calibration") or {}).get("prints") or ())

    def before_compiling(self) -> Earlier | None:
        """The integer model that a chip's compiler was given, from the same folder."""
        for item in reversed(self.report["outputs"]):
            compiled = Format(item["format"]) in COMPILED
            if not compiled and Format(item["format"]) is Format.TFLITE_QUANTIZED:
                found = Earlier(self.folder, self.report, item)
                found.check()
                return found
        return None

    def check(self) -> None:
        """The file must be the one that the report tells of."""
        path = self.model
        if not path.exists():
            raise ModelNotFound(
                f"{self.folder / REPORT} tells of {self.output['path']}, which is not there",
                hint="convert again, or name a file that is there.",
            )
        if digest_model(path, identify(path)) != self.output["sha256"]:
            raise PathError(
                f"{path} is not the file that {self.folder / REPORT} tells of: it was changed",
                hint="convert again; or copy the file elsewhere and name its model with --against.",
            )


def find(artifact: Path) -> Earlier | None:
    """Of an output folder its last model; of a file the report beside it that tells of it."""
    if (artifact / REPORT).is_file():
        report = _read(artifact / REPORT)
        if report is None or not report["outputs"]:
            return None
        found = Earlier(artifact, report, report["outputs"][-1])
        found.check()
        return found
    report = _read(artifact.parent / REPORT)
    for item in report["outputs"] if report else ():
        if item["path"] == artifact.name:
            found = Earlier(artifact.parent, report or {}, item)
            found.check()
            return found
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """None where it is no report of a conversion that wrote something."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        whole = all({"path", "sha256", "signature"} <= set(item) for item in report["outputs"])
        return report if whole and report["source"]["signature"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
