"""What boards said of the models, beside the host's figures: one row a board and model."""

from __future__ import annotations

from edgepipe.report import devices
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.tables import Cell, Column, plain
from edgepipe.report.html.view import View

TITLE = "On boards"


def section(view: View) -> list[Html] | None:
    entries = view.report.get("devices") or ()
    if not entries:
        return None
    head, found = devices.table(entries)
    columns = [Column(name, name in devices.NUMBERS) for name in head]
    rows: list[list[Child | Cell]] = [list(row) for row in found]
    notes = [el("li", note) for note in devices.notes(entries)]
    return [
        plain("The bundle of this folder, as it ran on boards", columns, rows),
        el("ul", notes) if notes else Html(""),
    ]
