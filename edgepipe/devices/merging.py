"""Boards' results go into the report of the conversion, beside the host's figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepipe import delivery, manifest
from edgepipe.devices.running import Result

REPORT = "report.json"
_NOT_KEPT = ("answers",)


def entry(result: Result) -> dict[str, Any]:
    """One board as the report has it: figures and settings, no address, no user, no key."""
    device = result.device
    found: dict[str, Any] = {
        "name": device.name,
        "kind": device.kind,
        "machine": device.machine,
        "emulated": device.emulated,
        "exit_code": result.exit_code,
        "seconds": round(result.seconds, 1),
        "sent": result.sent,
        "reconnects": result.reconnects,
    }
    if result.document is None:
        error = result.error
        return {**found, "verdict": "failed", "error": error.message if error else "unknown"}
    document = result.document
    models = [
        {key: value for key, value in model.items() if key not in _NOT_KEPT}
        for model in document["models"]
    ]
    kept = ("verdict", "bundle", "board", "limits", "settings", "started")
    return {**found, **{key: document[key] for key in kept}, "models": models}


def merge(folder: Path, results: Sequence[Result]) -> Path:
    """Into report.json and its page; what the same board said before, asked alike, is replaced."""
    path = folder / REPORT
    report = json.loads(path.read_text(encoding="utf-8"))
    rows = [entry(result) for result in results]
    fresh = {_key(row) for row in rows}
    names = {row["name"] for row in rows}
    kept = [
        row
        for row in report.get("devices", ())
        if _key(row) not in fresh and not (row["name"] in names and "error" in row)
    ]
    report["devices"] = kept + rows
    delivery.write_text(path, json.dumps(report, indent=2) + "\n")
    written = [REPORT]
    if (folder / delivery.PAGE).exists():
        from edgepipe.report.html import page

        page.write(folder / delivery.PAGE, page.of_file(report, path))
        written.append(delivery.PAGE)
    manifest.add(folder, [*written, *beside(folder, results)])
    return path


def beside(folder: Path, results: Sequence[Result]) -> list[str]:
    """What the boards' results are in, as far as it lies in this folder."""
    files = [path.resolve() for result in results for path in result.files.values()]
    root = folder.resolve()
    return [path.relative_to(root).as_posix() for path in files if root in path.parents]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    settings = row.get("settings", {})
    return (row["name"], settings.get("delegate", ""), settings.get("threads", 0))
