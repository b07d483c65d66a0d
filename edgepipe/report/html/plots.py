"""Plots as SVG, coloured by the page's classes: intervals, curves and dots over operators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.scales import LOGARITHMIC, Scale, Words, size_ticks, ticks, told, trimmed
from edgepipe.report.html.wording import number

WIDTH, WIDE = 320, 720
"""Units of a plot that fits a phone as it is, and of one that scrolls there."""
MARGIN = 10


@dataclass(frozen=True)
class Line:
    """One interval with its words; `kind` is its colour: mine, float, difference."""

    label: str
    found: Mapping[str, Any]
    words: str
    kind: str = "mine"


@dataclass(frozen=True)
class Mark:
    """A vertical line at a value: a limit, or where both sides are equal."""

    value: float
    words: str
    kind: str = "limit"


@dataclass(frozen=True)
class Series:
    label: str
    values: Sequence[float]
    kind: str


def svg(width: int, height: float, title: str, words: str, *children: Child) -> Html:
    return el(
        "svg",
        el("title", title),
        el("desc", words),
        *children,
        viewBox=f"0 0 {width} {height:g}",
        role="img",
        class_="plot wide" if width == WIDE else "plot",
    )


def words_at(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Html:
    return el("text", words, x=f"{x:g}", y=f"{y:g}", class_=class_ or None, text_anchor=anchor)


def stroke(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return el("line", x1=f"{x1:g}", y1=f"{y1:g}", x2=f"{x2:g}", y2=f"{y2:g}", class_=class_)


def axis(place: Scale, y: float, words: Words, top: float, most: int = 5) -> list[Html]:
    """Marks below a plot; the outermost words stay inside of it."""
    values = place.ticks(most)
    made = []
    for value, said in zip(values, told(values, words, place.logarithmic), strict=True):
        x = place(value)
        anchor = "start" if x < 25 else "end" if x > WIDTH - 30 else "middle"
        made += [stroke(x, top, x, y, "grid"), words_at(x, y + 14, said, "tick", anchor)]
    return made


def intervals(
    title: str,
    lines: Sequence[Line],
    marks: Sequence[Mark] = (),
    words: Words = number,
    ratios: bool = False,
) -> Html:
    """Dots with whiskers, one below the other on one scale; that of ratios may be logarithmic."""
    values = [float(line.found[key]) for line in lines for key in ("value", "low", "high")]
    values = [value for value in (*values, *(mark.value for mark in marks)) if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = (high - low) * 0.08 or abs(high) * 0.01 or 1.0
    place = Scale(low - pad, high + pad, MARGIN, WIDTH - MARGIN)
    if ratios and low > 0 and high / low > LOGARITHMIC:
        place = Scale(low / 1.3, high * 1.3, MARGIN, WIDTH - MARGIN, logarithmic=True)
    top = 16 * len({mark.words for mark in marks}) + 2
    bottom = top + 36 * len(lines)
    made: list[Html] = axis(place, bottom, words, top)
    for at, mark in enumerate(marks):
        x = place(mark.value)
        anchor = "end" if x > WIDTH / 2 else "start"
        made.append(stroke(x, 4 + 16 * at, x, bottom, f"mark {mark.kind}"))
        made.append(words_at(x + (-5 if anchor == "end" else 5), 13 + 16 * at, mark.words,
                          f"marked {mark.kind}", anchor))  # fmt: skip
    for at, line in enumerate(lines):
        y = top + 36 * at + 25
        x1, x, x2 = (place(float(line.found[key])) for key in ("low", "value", "high"))
        made += [
            words_at(MARGIN, y - 11, line.label, "label"),
            words_at(WIDTH - MARGIN, y - 11, line.words, "value", "end"),
            stroke(x1, y, x2, y, f"whisker {line.kind}"),
            stroke(x1, y - 4, x1, y + 4, f"whisker {line.kind}"),
            stroke(x2, y - 4, x2, y + 4, f"whisker {line.kind}"),
            el("circle", cx=x, cy=y, r=4.5, class_=f"dot {line.kind}"),
        ]
    described = "; ".join(f"{line.label}: {line.words}" for line in lines)
    described += "".join(f"; {mark.words}" for mark in marks)
    return svg(WIDTH, bottom + 20, title, described, made)


def memory(title: str, series: Sequence[Series], ops: int, words: Words, described: str) -> Html:
    """A step of bytes for each operator, or few of them, from the first to the last of `ops`."""
    top, bottom, left = 22, 170, 64
    high = max((max(one.values, default=0.0) for one in series), default=0.0) or 1.0
    rise = Scale(0, high, bottom, top)
    made: list[Html] = []
    for value in size_ticks(0, high):
        y = rise(value)
        made += [stroke(left, y, WIDE - MARGIN, y, "grid"),
                 words_at(left - 6, y + 4, trimmed(words(value)), "tick", "end")]  # fmt: skip
    for one in series:
        across = Scale(0, len(one.values), left, WIDE - MARGIN)
        path = f"M{left},{bottom}"
        for at, value in enumerate(one.values, 1):
            path += f"V{rise(value)}H{across(at)}"
        kind = "area" if one is series[-1] else "curve"
        made.append(el("path", d=f"{path}V{bottom}", class_=f"{kind} {one.kind}"))
    for at, one in enumerate(series):
        made += _legend(left + 4 + 150 * at, 12, one)
    made += _ends(left, bottom, ops)
    return svg(WIDE, bottom + 22, title, described, made)


def _legend(x: float, y: float, one: Series) -> list[Html]:
    return [el("rect", x=x, y=y - 9, width=10, height=10, class_=f"area {one.kind}"),
            words_at(x + 15, y, one.label, "label")]  # fmt: skip


def scatter(
    title: str, values: Sequence[float | None], marks: Sequence[Mark], words: Words, described: str
) -> Html:
    """A dot for each operator, and limits across."""
    left, top, bottom = 64, 14, 170
    known = [value for value in values if value is not None and math.isfinite(value)]
    known += [mark.value for mark in marks]
    low, high = min(known, default=0.0), max(known, default=1.0)
    pad = (high - low) * 0.06 or 1.0
    rise = Scale(low - pad, high + pad, bottom, top)
    across = Scale(0, max(1, len(values)), left + 6, WIDE - MARGIN)
    made: list[Html] = []
    for value in ticks(low - pad, high + pad, 5):
        made += [stroke(left, rise(value), WIDE - MARGIN, rise(value), "grid"),
                 words_at(left - 6, rise(value) + 4, words(value), "tick", "end")]  # fmt: skip
    for mark in marks:
        y = rise(mark.value)
        right, kind = WIDE - MARGIN, mark.kind
        made += [stroke(left, y, right, y, f"mark {kind}"),
                 words_at(right, y - 5, mark.words, f"marked {kind}", "end")]  # fmt: skip
    made += [
        el("circle", cx=across(at + 0.5), cy=rise(value), r=3, class_="dot mine")
        for at, value in enumerate(values)
        if value is not None and math.isfinite(value)
    ]
    made += _ends(left, bottom, len(values))
    return svg(WIDE, bottom + 22, title, described, made)


def _ends(left: float, bottom: float, count: int) -> list[Html]:
    return [
        words_at(left, bottom + 15, "first operator", "tick"),
        words_at(WIDE - MARGIN, bottom + 15, f"last of {count:,}", "tick", "end"),
    ]


def strip(title: str, kinds: Sequence[str], described: str) -> Html:
    """One cell an operator, neighbours of one kind joined: where a chip hands over to the CPU."""
    width = (WIDE - 2 * MARGIN) / max(1, len(kinds))
    made: list[Html] = []
    start = 0
    for at in range(1, len(kinds) + 1):
        if at == len(kinds) or kinds[at] != kinds[start]:
            long = f"{max(1.0, (at - start) * width - 0.6):.2f}"
            x = f"{MARGIN + start * width:.2f}"
            made.append(el("rect", x=x, y=4, width=long, height=26, class_=f"cell {kinds[start]}"))
            start = at
    return el(
        "svg",
        el("title", title),
        el("desc", described),
        made,
        viewBox=f"0 0 {WIDE} 34",
        preserveAspectRatio="none",
        role="img",
        class_="plot strip",
    )


def bar(share: float, kind: str = "mine") -> Html:
    """A share of one as a bar in a table's cell; the figure stands beside it."""
    width = round(max(0.0, min(1.0, share)) * 80, 1)
    return el(
        "svg",
        el("rect", x=0, y=0, width=80, height=8, class_="trough"),
        el("rect", x=0, y=0, width=width, height=8, class_=f"cell {kind}"),
        viewBox="0 0 80 8",
        class_="bar",
        aria_hidden="true",
    )
