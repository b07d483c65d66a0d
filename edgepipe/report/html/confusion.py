"""The confusion matrix of both sides, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

from edgepipe.report.html import wording
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.tables import Cell, Column, plain
from edgepipe.report.html.view import Data, View

TITLE = "Confusion"
MOST = 40
"""Classes that a matrix can show; of more there is the list of pairs."""
PAIRS = 12
SHADES = 6
Matrix = Sequence[Sequence[int]]


def section(view: View) -> list[Html] | None:
    found = view.part("confusion") or ()
    return [part for one in found for part in _one(one)] or None


def _one(found: Data) -> list[Html]:
    names, candidate, baseline = found["names"], found["candidate"], found.get("baseline")
    parts = [el("h3", f"Output {found['output']}")] if found.get("output") else []
    if len(names) <= MOST:
        sides = [("Deployed model", candidate)] + ([("Float model", baseline)] if baseline else [])
        made = [_matrix(title, names, matrix) for title, matrix in sides]
        parts.append(el("div", made, class_="figures"))
    else:
        parts.append(el("p", f"{len(names):,} classes: too many for a matrix."))
    return [*parts, *_pairs(names, candidate, baseline)]


def _matrix(title: str, names: Sequence[str], matrix: Matrix) -> Html:
    head = el(
        "tr", el("th", "true ↓ said →", scope="col"), [el("th", one, scope="col") for one in names]
    )
    rows = []
    for at, (name, row) in enumerate(zip(names, matrix, strict=True)):
        total = sum(row) or 1
        cells = [
            el("td", count or "·", class_=_shade(count / total, at == column) if count else "none")
            for column, count in enumerate(row)
        ]
        rows.append(el("tr", el("th", name, scope="row"), cells))
    table = el("table", el("caption", f"{title}: rows are what is true, columns what it said"),
               el("thead", head), el("tbody", rows), class_="matrix")  # fmt: skip
    return el("div", table, class_="scroll", role="region", aria_label=title, tabindex=0)


def _shade(share: float, right: bool) -> str:
    """A shade of green on the diagonal, of red beside it; CSS has one class for each."""
    return f"{'right' if right else 'wrong'}{min(SHADES, int(share * SHADES) + 1)}"


def _pairs(names: Sequence[str], candidate: Matrix, baseline: Matrix | None) -> list[Html]:
    wrong = [
        (count, true, said)
        for true, row in enumerate(candidate)
        for said, count in enumerate(row)
        if true != said and count
    ]
    if not wrong:
        return [el("p", "The deployed model took no class for another.")]
    rows: list[list[Child | Cell]] = []
    for count, true, said in sorted(wrong, reverse=True)[:PAIRS]:
        before = str(baseline[true][said]) if baseline else wording.NOTHING
        rows.append([names[true], names[said], str(count), before])
    columns = [Column("True"), Column("Said"), Column("Deployed", True), Column("Float", True)]
    return [plain("Most often taken for another", columns, rows)]
