"""Tables with scopes, sortable by click and key; long ones wait until they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepipe.report.html import plots
from edgepipe.report.html.markup import Child, Html, el

SHOWN = 100
"""Rows that are laid out at once; the rest lie in a template, which costs the browser nothing."""


@dataclass(frozen=True)
class Column:
    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """`value` is what it is sorted by, where that isn't what is read."""

    content: Child
    value: float | None = None


def barred(share: float, words: str) -> list[Html]:
    """A bar and its figure, which is as wide in every row."""
    return [plots.bar(share), el("span", words, class_="barred")]


def plain(
    caption: str, columns: Sequence[str | Column], rows: Sequence[Sequence[Child | Cell]]
) -> Html:
    """A short table; the first cell of a row says what the row is."""
    heads = [_column(one) for one in columns]
    return _scroller(
        caption,
        el(
            "table",
            el("caption", caption),
            el("thead", el("tr", [_head(one) for one in heads])),
            el("tbody", [_row(row, heads) for row in rows]),
        ),
    )


def sortable(
    caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Child | Cell]]
) -> Html:
    """A long table whose heads are buttons; without scripts it is in the order given."""
    heads = [
        el("th", el("button", one.title, type="button"), scope="col", aria_sort="none",
           class_="n" if one.numeric else None)
        for one in columns
    ]  # fmt: skip
    made = [_row(row, columns) for row in rows]
    shown, rest = made[:SHOWN], made[SHOWN:]
    filters = el(
        "p",
        el("label", "Only rows with ", el("input", type="search", autocomplete="off")),
        class_="filter",
        hidden=True,
    )
    more = el(
        "p",
        f"The first {len(shown)} of {len(made):,} rows. ",
        el("button", f"Show all {len(made):,}", type="button", hidden=True),
        class_="more",
    )
    return el(
        "div",
        filters if len(made) > 12 else None,
        _scroller(
            caption,
            el(
                "table",
                el("caption", caption),
                el("thead", el("tr", heads)),
                el("tbody", shown),
                el("template", rest) if rest else None,
                class_="sortable",
            ),
        ),
        more if rest else None,
        class_="long",
    )


def _scroller(caption: str, table: Html) -> Html:
    """A wide table scrolls alone, also by keyboard, and the page doesn't."""
    return el("div", table, class_="scroll", role="region", aria_label=caption, tabindex=0)


def _column(found: str | Column) -> Column:
    return Column(found) if isinstance(found, str) else found


def _head(column: Column) -> Html:
    return el("th", column.title, scope="col", class_="n" if column.numeric else None)


def _row(cells: Sequence[Child | Cell], columns: Sequence[Column]) -> Html:
    made = []
    for at, (cell, column) in enumerate(zip(cells, columns, strict=True)):
        found = cell if isinstance(cell, Cell) else Cell(cell)
        made.append(
            el(
                "td" if at else "th",
                found.content,
                scope=None if at else "row",
                class_="n" if column.numeric else None,
                data_v=None if found.value is None else f"{found.value:.9g}",
            )
        )
    return el("tr", made)
