"""The page over several results: one row each, with its verdict and the way to its own page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import quote

from edgepipe.report.html import frame, wording
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.tables import Cell, Column, barred, sortable
from edgepipe.report.html.verdict import SIGNS
from edgepipe.report.html.view import Data

STATES = {"done": "passed", "failed": "failed", "incomplete": "incomplete"}
Row: TypeAlias = "list[Child | Cell]"
COLUMNS = [
    Column("Target"), Column("Verdict"), Column("Type"), Column("Size", True),
    Column("Memory", True), Column("On the chip", True), Column("Latency", True),
    Column("Like float", True), Column("Accuracy", True),
]  # fmt: skip


def render(report: Data) -> str:
    """Of a run for several targets."""
    rows = report["targets"]
    state = STATES.get(report["status"], "failed")
    done = sum(one["status"] == "done" for one in rows)
    headline = "All targets done" if state == "passed" else f"{done} of {len(rows)} targets done"
    name = str(report["model"]).rstrip("/").rsplit("/", 1)[-1]
    errors = [_error(one) for one in rows if one.get("error")]
    banner = el(
        "section",
        el("h2", el("span", SIGNS[state], class_="sign", aria_hidden="true"), headline),
        el("ul", errors, class_="gates") if errors else None,
        id="verdict",
        class_=f"verdict {state}",
    )
    parts: list[tuple[str, str, Sequence[Html]]] = [("targets", "Targets", _targets(rows))]
    below = f"{wording.plural(len(rows), 'target')} · {report.get('created', '')}"
    return frame.document(f"{name}: {headline.lower()}", name, below, [banner], parts)


def _error(row: Data) -> Html:
    state = STATES.get(row["status"], "failed")
    error = row["error"]
    return el(
        "li",
        el("span", SIGNS[state], class_="sign", aria_hidden="true"),
        el("span", el("b", row["target"]), f" {error['message']}",
           el("br") if error.get("hint") else None, error.get("hint")),
        class_=state,
    )  # fmt: skip


def _targets(rows: Sequence[Data]) -> list[Html]:
    parts = [sortable("What each target came to", *table(rows))]
    notes = [f"{one['target']}: {note}" for one in rows for note in _notes(one)]
    if notes:
        parts.append(el("ul", [el("li", note) for note in notes], class_="muted"))
    return parts


def table(rows: Sequence[Data], linked: bool = True) -> tuple[list[Column], list[Row]]:
    """`linked` is for who finds the targets' own pages beside this one."""
    largest = max((one["size"] or 0 for one in rows), default=0) or 1
    return COLUMNS, [[_link(one, linked), *_cells(one, largest)] for one in rows]


def _cells(row: Data, largest: int) -> Row:
    size, accuracy, latency = row["size"], row.get("accuracy"), row.get("latency_ms")
    memory = row.get("memory_bytes")
    mapped = wording.NOTHING
    if row.get("accelerated") is not None:
        mapped = f"{row['accelerated']} of {row['ops']}"
    takes = wording.NOTHING if memory is None else f"{wording.size(memory)} {row['memory_of']}"
    return [
        row["status"],
        row["precision"],
        Cell(barred(size / largest, wording.size(size)) if size else wording.NOTHING, size),
        Cell(takes, memory),
        Cell(mapped, row.get("accelerated")),
        Cell(wording.seconds(None if latency is None else latency / 1000), latency),
        Cell(wording.decibels(row.get("sqnr_db")), row.get("sqnr_db")),
        Cell(wording.percent(accuracy["quantized"]) if accuracy else wording.NOTHING),
    ]


def _link(row: Data, linked: bool) -> Html:
    """To the target's own page, which the run wrote in a folder beside this one."""
    if not linked or not row.get("report"):
        return el("b", row["target"])
    folder = str(row["report"]).rpartition("/")[0]
    return el("a", row["target"], href=quote(f"./{folder}/report.html"))


def _notes(row: Data) -> list[str]:
    found = [str(note) for note in row.get("notes") or ()]
    if row.get("latency_ms") is not None:
        found.insert(0, f"latency {row['latency_is']} {row['latency_of']}")
    if row.get("mapping") == "foretold":
        found.insert(0, "not compiled; its mapping and memory are foretold")
    return found
