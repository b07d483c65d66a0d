"""The page over several models, as `edgepipe check` saw them: which pass, and why others don't."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from edgepipe.delivery import PAGE
from edgepipe.report.html import frame, plots, wording
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.plots import Line, Mark
from edgepipe.report.html.tables import Cell, Column, barred, sortable
from edgepipe.report.html.verdict import ORDER, SIGNS, sentence
from edgepipe.report.markdown import summary
from edgepipe.report.outcome import Outcome

Row: TypeAlias = "list[Child | Cell]"
COLUMNS = [
    Column("Model"), Column("Verdict"), Column("Size", True), Column("Accuracy", True),
    Column("Against float", True), Column("Latency", True), Column("On the chip", True),
    Column("Time", True),
]  # fmt: skip
SHOWN = 40
"""Models whose differences are drawn; the table has all."""


def render(outcomes: Sequence[Outcome], page: Path, title: str = "edgepipe") -> str:
    """`page` is where it will be, so that the links to the models' own pages lead from there."""
    told = summary(outcomes)
    state = _state(outcomes)
    bad = [one for one in outcomes if one.words()]
    banner = el(
        "section",
        el("h2", el("span", SIGNS[state], class_="sign", aria_hidden="true"), told),
        el("ul", [_wrong(one) for one in bad], class_="gates") if bad else None,
        id="verdict",
        class_=f"verdict {state}",
    )
    parts: list[tuple[str, str, Sequence[Html]]] = [("models", "Models", _table(outcomes, page))]
    drawn = _differences(outcomes)
    if drawn:
        parts.append(("differences", "Against float", drawn))
    gates = [(one, gate) for one in outcomes for gate in one.gates]
    if gates:
        parts.append(("gates", "Limits", _gates(gates)))
    return frame.document(f"{title}: {told}", title, told, [banner], parts)


def _state(outcomes: Sequence[Outcome]) -> str:
    found = {_class(one.status) for one in outcomes}
    return next((one for one in ("failed", "undecided") if one in found), "passed")


def _class(status: str) -> str:
    return "failed" if status == "error" else status


def _wrong(outcome: Outcome) -> Html:
    state = _class(outcome.status)
    return el(
        "li",
        el("span", SIGNS[state], class_="sign", aria_hidden="true"),
        el(
            "span",
            el("b", outcome.name),
            [el("span", f" {one}", class_="line") for one in outcome.words()],
        ),
        class_=state,
    )


def _table(outcomes: Sequence[Outcome], page: Path) -> list[Html]:
    sizes = [one.model["size"] for one in outcomes if one.model]
    largest = max(sizes, default=1) or 1
    rows = [_row(one, largest, page) for one in outcomes]
    notes = [f"{one.name}: {note}" for one in outcomes for note in one.notes]
    listed = el("ul", [el("li", note) for note in notes], class_="muted") if notes else Html("")
    return [sortable("What became of each model", COLUMNS, rows), listed]


def _row(outcome: Outcome, largest: int, page: Path) -> Row:
    seen = outcome.validation or {}
    score: dict[str, Any] = next(iter(seen.get("scores") or ()), {})
    unit = score.get("unit", "")
    ratio = (seen.get("latency") or {}).get("ratio")
    place, size = seen.get("placement"), outcome.model["size"] if outcome.model else None
    name = f"{score['metric']} " if score else ""
    return [
        _link(outcome, page),
        el("span", outcome.status, class_=f"word {_class(outcome.status)}"),
        Cell(barred(size / largest, wording.size(size)) if size else wording.NOTHING, size),
        _figure(score.get("candidate"), unit, name),
        _figure(score.get("difference"), unit, sign=True),
        _figure(ratio, wording.TIMES),
        Cell(f"{place['on_device']} of {place['ops']}", place["on_device"])
        if place
        else wording.NOTHING,
        Cell(wording.seconds(outcome.seconds), outcome.seconds),
    ]


def _figure(found: dict[str, Any] | None, unit: str, name: str = "", sign: bool = False) -> Cell:
    if not found:
        return Cell(wording.NOTHING)
    value = wording.with_unit(found["value"], unit, sign)
    whole = wording.interval(found, unit, sign)
    below = whole.removeprefix(value).strip(" ()")
    return Cell([f"{name}{value}", el("small", below) if below else None], found["value"])


def _link(outcome: Outcome, page: Path) -> Html:
    """To the model's own page, if the run left one."""
    own = Path(outcome.folder) / PAGE if outcome.folder else None
    if own is None or not own.is_file():
        return el("b", outcome.name)
    where = os.path.relpath(own.resolve(), page.resolve().parent)
    return el("a", outcome.name, href=quote(f"./{Path(where).as_posix()}"))


def _differences(outcomes: Sequence[Outcome]) -> list[Html]:
    """One plot for each metric: the models below each other on one scale."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for outcome in outcomes:
        for score in (outcome.validation or {}).get("scores") or ():
            if score.get("difference"):
                words = wording.interval(score["difference"], score["unit"], sign=True)
                line = Line(outcome.name, score["difference"], words, "difference")
                groups.setdefault((score["metric"], score["unit"]), []).append(line)
    figures = [
        el(
            "figure",
            plots.intervals(
                f"{metric}, difference from float", lines[:SHOWN], [Mark(0.0, "as float", "equal")]
            ),
            el("figcaption", f"{metric}, deployed less float"),
        )
        for (metric, _), lines in groups.items()
    ]
    return [el("div", figures, class_="figures")] if figures else []


def _gates(gates: Sequence[tuple[Outcome, Any]]) -> list[Html]:
    ordered = sorted(gates, key=lambda one: ORDER[one[1]["verdict"]])
    rows: list[Row] = [
        [
            el("b", outcome.name),
            el("code", gate["name"]),
            el("span", gate["verdict"], class_=f"word {gate['verdict']}"),
            gate["limit"],
            gate["seen"],
            sentence(gate),
        ]
        for outcome, gate in ordered
    ]
    heads = ("Model", "Limit", "Verdict", "At", "Seen", "In words")
    return [sortable("Limits, the broken ones first", [Column(one) for one in heads], rows)]
