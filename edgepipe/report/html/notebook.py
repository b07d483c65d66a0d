"""What results show of themselves in a notebook: the first parts of the page, without script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepipe import delivery
from edgepipe.report.html import (
    accuracy,
    figures,
    files,
    frame,
    latency,
    layers,
    overview,
    path,
    verdict,
    wording,
)
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.tables import Cell, Column, plain
from edgepipe.report.html.view import Data, View

ROWS = 12


def show(found: Any) -> str:
    """Any result of the Python interface."""
    kind = type(found).__name__
    if kind == "Inspection":
        return inspection(found.to_json())
    if kind == "Diagnosis":
        return diagnosis(found.report)
    path = found.path if kind == "Validated" else found.report_path
    page = path.with_name(delivery.PAGE)
    return targets(found.report, page) if kind == "TargetResults" else report(found.report, page)


def report(data: Data, page: Path | None = None) -> str:
    """Of a conversion, a compilation or a validation."""
    view = View.of(data, None, "report.json")
    parts: list[Child] = [verdict.section(view, anchor=None), figures.section(view)]
    sections = (accuracy, latency) if view.validation else (path, accuracy)
    for one in sections:
        found = one.section(view)
        if found:
            parts.append(el("section", el("h2", one.TITLE), found))
    return frame.fragment(parts, _where(page))


def targets(data: Data, page: Path | None = None) -> str:
    columns, rows = overview.table(data["targets"], linked=False)
    return frame.fragment(
        el("section", plain(f"{data['model']}: what each target came to", columns, rows)),
        _where(page),
    )


def diagnosis(data: Data) -> str:
    """The costliest layers, and where in the model they are."""
    worst = sorted(data["layers"], key=lambda one: -(one["share"] or 0.0))
    outputs: list[list[Child | Cell]] = [
        [el("code", name), wording.decibels(one["sqnr_db"]), wording.number(one["cosine"], 6)]
        for name, one in data["outputs"].items()
    ]
    columns = [Column("Output"), Column("Signal to noise", True), Column("Cosine", True)]
    told = f"On {wording.plural(data['samples'], 'sample')} of {data['data']}"
    more = len(worst) - ROWS
    return frame.fragment(
        el(
            "section",
            plain(told, columns, outputs),
            layers.drawn(data),
            plain("Layers, the costliest first", layers.COLUMNS, layers.rows(worst[:ROWS])),
            el("p", f"and {more} more", class_="muted") if more > 0 else None,
        )
    )


def inspection(data: Mapping[str, Any]) -> str:
    """What a model is: size, ends, operators, and what it costs where that is counted."""
    total = ((data.get("cost") or {}).get("total")) or {}
    peak = (data.get("cost") or {}).get("peak_activation_bytes")
    facts: list[tuple[str, str]] = [
        ("Format", str(data["format"])),
        ("Size", wording.size(data["size"])),
        ("Parameters", _count(data["parameters"])),
        ("Multiply-adds", _count(total.get("macs"))),
        ("Peak of activations", wording.size(peak)),
    ]
    tiles = [el("div", el("dt", key), el("dd", value)) for key, value in facts
             if value != wording.NOTHING]  # fmt: skip
    kinds = sorted(data["ops"].items(), key=lambda one: (-one[1], one[0]))
    rows: list[list[Child | Cell]] = [[op, f"{count:,}"] for op, count in kinds[:ROWS]]
    ends = files.ends({"path": "the model", "signature": data["signature"]})
    parts: list[Html] = [ends]
    if rows:
        parts.append(plain("Operators", [Column("Type"), Column("Count", True)], rows))
    digest = el("p", "SHA-256 ", el("code", data["sha256"]), class_="muted")
    return frame.fragment(el("dl", tiles, class_="tiles"), el("section", parts, digest))


def _count(found: int | None) -> str:
    return wording.NOTHING if found is None else f"{found:,}"


def _where(page: Path | None) -> Html | None:
    return el("p", "The whole report: ", el("code", str(page)), class_="muted") if page else None
