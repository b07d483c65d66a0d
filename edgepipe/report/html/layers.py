"""What each layer adds to the error: a plot over the model, and a table to sort."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from edgepipe.report.html import plots, wording
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.plots import Mark
from edgepipe.report.html.tables import Cell, Column, barred, sortable
from edgepipe.report.html.view import Data, View

TITLE = "Error by layer"
COLUMNS = [Column("Layer"), Column("Op"), Column("Place", True), Column("Share", True),
           Column("Own signal to noise", True), Column("Likely cause")]  # fmt: skip
LOUD_DB = 20
"""A layer below this has noise of a tenth of what it gives, see docs/diagnose.md."""


def section(view: View) -> list[Html] | None:
    found = view.diagnosis
    if found is None:
        return [_how(view)] if view.quantized_proof else None
    layers = sorted(found["layers"], key=lambda one: one["index"])
    parts = [
        el("p", f"Each layer's integer kernel ran on the float model's inputs, on "
           f"{wording.plural(found['samples'], 'sample')}: what it adds alone, and which share of "
           f"the error at the outputs came from it.")
    ]  # fmt: skip
    parts += [_cause(one) for one in found.get("causes", ())]
    parts += drawn(found)
    worst_first = sorted(layers, key=lambda one: -(one["share"] or 0.0))
    return [*parts, sortable("Layers, the costliest first", COLUMNS, rows(worst_first))]


def drawn(found: Data) -> list[Html]:
    """A dot for each layer in the order of the model; nothing where none was measured."""
    layers = sorted(found["layers"], key=lambda one: one["index"])
    measured = [one for one in layers if one["own_sqnr_db"] is not None]
    if not measured:
        return []
    worst = min(measured, key=lambda one: float(one["own_sqnr_db"]))
    words = (f"Signal to noise of each layer alone; the lowest is {worst['own_sqnr_db']} dB, "
             f"{worst['op']} {worst['layer']}.")  # fmt: skip
    values = [one["own_sqnr_db"] for one in layers]
    plot = plots.scatter(
        "Own error of each layer",
        [None if value is None or not math.isfinite(value) else min(value, 100.0)
         for value in values],
        [Mark(LOUD_DB, f"{LOUD_DB} dB: a tenth is noise", "limit")],
        lambda value: f"{value:.0f} dB",
        words,
    )  # fmt: skip
    box = el("div", plot, class_="scroll", role="region", tabindex=0,
             aria_label="Own error of each layer")  # fmt: skip
    return [el("figure", box, el("figcaption", words))]


def _how(view: View) -> Html:
    """The command that measures it, for these very files where both are TFLite."""
    names = [str(one["path"]) for one in view.outputs if str(one["path"]).endswith(".tflite")]
    data = view.report.get("request", {}).get("samples") or "DATA"
    said = "The errors of the layers were not measured in this run. "
    if len(names) < 2:
        return el("p", said, el("code", "edgepipe diagnose"), " does it for TFLite.")
    words = ["edgepipe", "diagnose", names[-2], "--int8", names[-1], "--samples", str(data),
             "-o", "."]  # fmt: skip
    return el(
        "div",
        el("p", f"{said}In the folder of this report, this does it and puts them here:"),
        el("pre", el("code", shlex.join(words)), tabindex=0),
    )


def _cause(cause: Data) -> Html:
    return el("p", el("strong", f"{cause['name']}: "), cause["words"], " → ", cause["remedy"])


def rows(layers: Sequence[Data]) -> list[list[Child | Cell]]:
    made: list[list[Child | Cell]] = []
    for one in layers:
        share, own = one["share"], one["own_sqnr_db"]
        causes = [cause["name"] for cause in one.get("causes") or ()]
        made.append(
            [
                el("code", one["layer"]),
                one["op"],
                Cell(str(one["index"]), one["index"]),
                Cell(
                    barred(share, f"{share:.1%}") if share is not None else wording.NOTHING,
                    share,
                ),
                Cell(wording.decibels(own), own),
                ", ".join(causes) or one.get("not_measured") or "",
            ]
        )
    return made
