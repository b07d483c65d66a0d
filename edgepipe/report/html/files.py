"""The files that were delivered, and what goes in and comes out of the last one."""

from __future__ import annotations

from edgepipe.report.html import wording
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.tables import Cell, Column, barred, plain
from edgepipe.report.html.view import Data, View

TITLE = "Files, inputs and outputs"


def section(view: View) -> list[Html] | None:
    if not view.outputs:
        return None
    largest = max(one["size"] for one in view.outputs) or 1
    rows: list[list[Child | Cell]] = [
        [
            el("code", one["path"]),
            one["format"],
            Cell(barred(one["size"] / largest, wording.size(one["size"])), one["size"]),
            wording.digest(one["sha256"]),
        ]
        for one in view.outputs
    ]
    beside = [view.report[key] for key in ("recipe", "compile_log") if view.report.get(key)]
    beside += list(view.report.get("emitted", ()))
    last = view.outputs[-1]
    return [
        plain("What was written", ["File", "Format", Column("Size", True), "SHA-256"], rows),
        el("p", "Beside them: ", ", ".join(map(str, beside)), ".") if beside else Html(""),
        ends(last),
    ]


def ends(last: Data) -> Html:
    rows: list[list[Child | Cell]] = []
    for kind in ("inputs", "outputs"):
        for port in last["signature"][kind]:
            rows.append(
                [
                    el("code", port["name"]),
                    kind[:-1],
                    wording.shape(port["shape"]),
                    port["dtype"],
                    _layout(port),
                ]
            )
    head = f"Ends of {last['path']}"
    return plain(head, ["Name", "End", "Shape", "Type", "Layout"], rows)


def _layout(port: Data) -> str:
    found = port.get("permutation")
    return f"axes {tuple(found)} of the model given" if found else "as in the model given"
