"""Plots as SVG, coloured by the page's classes: intervals, distributions, curves over operators."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.wording import MINUS, number

WIDTH, WIDE = 320, 720
"""Units of a plot that fits a phone as it is, and of one that scrolls there."""
MARGIN = 10
CELLS = 360
"""Most columns of a plot over operators: more could not be told apart."""
Words = Callable[[float], str]


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


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values in a range, `most` at most."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    found: list[float] = []
    while first * step <= high + step * 1e-9 and len(found) <= most:
        found.append(first * step + 0.0)
        first += 1
    return found or [low]


def _trimmed(words: str) -> str:
    """1.50 as 1.5 and 2.00 ms as 2 ms: a scale's marks are exact."""
    return re.sub(r"(\.\d*?)0+(?!\d)", lambda found: found[1].rstrip("."), words)


def _exact(values: Sequence[float]) -> list[str]:
    """With as many digits as tell neighbours apart."""
    step = min((abs(b - a) for a, b in pairwise(values)), default=1.0)
    digits = max(0, math.ceil(-math.log10(step) - 1e-9)) if step else 0
    return [f"{value:,.{digits}f}".replace("-", MINUS) for value in values]


def size_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round values of a range of bytes, as KiB and MiB count."""
    unit = 1024.0 ** max(0, int(math.log(max(high, 1.0), 1024)))
    return [one * unit for one in ticks(low / unit, high / unit, most)]


def _svg(width: int, height: float, title: str, words: str, *children: Child) -> Html:
    return el(
        "svg",
        el("title", title),
        el("desc", words),
        *children,
        viewBox=f"0 0 {width} {height:g}",
        role="img",
        class_="plot wide" if width == WIDE else "plot",
    )


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: round(start + (min(max(value, low), high) - low) / span * (end - start), 1)


def _text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Html:
    return el("text", words, x=f"{x:g}", y=f"{y:g}", class_=class_ or None, text_anchor=anchor)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return el("line", x1=f"{x1:g}", y1=f"{y1:g}", x2=f"{x2:g}", y2=f"{y2:g}", class_=class_)


def _axis(
    place: Callable[[float], float], values: Sequence[float], y: float, words: Words, top: float
) -> list[Html]:
    """Ticks below a plot; the outermost words stay inside of it."""
    found = []
    said = [_trimmed(words(value)) for value in values]
    if len(set(said)) < len(said) or words is number:
        said = _exact(values)
    for at, value in enumerate(values):
        x = place(value)
        anchor = "start" if x < 25 and at == 0 else "end" if x > WIDTH - 30 < WIDTH else "middle"
        found += [
            _line(x, top, x, y, "grid"),
            _text(x, y + 14, said[at], "tick", anchor),
        ]
    return found


def intervals(
    title: str, lines: Sequence[Line], marks: Sequence[Mark] = (), words: Words = number
) -> Html:
    """Dots with whiskers, one below the other on one scale."""
    values = [float(line.found[key]) for line in lines for key in ("value", "low", "high")]
    values = [value for value in (*values, *(mark.value for mark in marks)) if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = (high - low) * 0.08 or abs(high) * 0.01 or 1.0
    place = _scale(low - pad, high + pad, MARGIN, WIDTH - MARGIN)
    top = 16 * len({mark.words for mark in marks}) + 2
    bottom = top + 36 * len(lines)
    made: list[Html] = _axis(place, ticks(low - pad, high + pad), bottom, words, top)
    for at, mark in enumerate(marks):
        x = place(mark.value)
        anchor = "end" if x > WIDTH / 2 else "start"
        made.append(_line(x, 4 + 16 * at, x, bottom, f"mark {mark.kind}"))
        made.append(_text(x + (-5 if anchor == "end" else 5), 13 + 16 * at, mark.words,
                          f"marked {mark.kind}", anchor))  # fmt: skip
    for at, line in enumerate(lines):
        y = top + 36 * at + 25
        x1, x, x2 = (place(float(line.found[key])) for key in ("low", "value", "high"))
        made += [
            _text(MARGIN, y - 11, line.label, "label"),
            _text(WIDTH - MARGIN, y - 11, line.words, "value", "end"),
            _line(x1, y, x2, y, f"whisker {line.kind}"),
            _line(x1, y - 4, x1, y + 4, f"whisker {line.kind}"),
            _line(x2, y - 4, x2, y + 4, f"whisker {line.kind}"),
            el("circle", cx=x, cy=y, r=4.5, class_=f"dot {line.kind}"),
        ]
    told = "; ".join(f"{line.label}: {line.words}" for line in lines)
    told += "".join(f"; {mark.words}" for mark in marks)
    return _svg(WIDTH, bottom + 20, title, told, made)


def _bounds(series: Sequence[Series]) -> tuple[float, float]:
    """From the fastest to the 99th percentile and a little: a few late ones squeeze the rest."""
    low = min(min(one.values) for one in series)
    high = max(sorted(one.values)[int(0.99 * (len(one.values) - 1))] for one in series)
    pad = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return max(0.0, low - pad), high + pad


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def histogram(title: str, series: Sequence[Series], words: Words = number) -> Html:
    """How often each value came, of both sides over each other."""
    low, high = _bounds(series)
    bins = max(8, min(48, int(math.sqrt(max(len(one.values) for one in series)) * 1.5)))
    place, top, bottom = _scale(low, high, MARGIN, WIDTH - MARGIN), 36, 150
    made: list[Html] = _axis(place, ticks(low, high, 4), bottom, words, top)
    width = (WIDTH - 2 * MARGIN) / bins
    late = 0
    for one in series:
        counts = [0] * bins
        for value in one.values:
            at = int((value - low) / (high - low) * bins)
            late += at >= bins
            counts[min(max(at, 0), bins - 1)] += at < bins
        most = max(counts) or 1
        path, x = f"M{MARGIN},{bottom}", float(MARGIN)
        for count in counts:
            path += f"V{bottom - count / most * (bottom - top):.1f}H{x + width:.1f}"
            x += width
        made.append(el("path", d=f"{path}V{bottom}Z", class_=f"area {one.kind}"))
    for at, one in enumerate(series):
        middle = _median(one.values)
        x = place(middle)
        anchor = "end" if x > WIDTH / 2 else "start"
        made += [
            _line(x, 4 + 15 * at, x, bottom, f"mark {one.kind}"),
            _text(x + (-5 if anchor == "end" else 5), 13 + 15 * at,
                  f"{one.label}: median {words(middle)}", f"marked {one.kind}", anchor),
        ]  # fmt: skip
    told = "; ".join(
        f"{one.label}: {len(one.values)} runs, median {words(_median(one.values))}"
        for one in series
    )
    told += f"; {late} slower runs lie outside of the plot" if late else ""
    return _svg(WIDTH, bottom + 20, title, told, made)


def ecdf(title: str, series: Sequence[Series], words: Words = number) -> Html:
    """Which share of the runs was done by then."""
    low, high = _bounds(series)
    place, rise = _scale(low, high, 40, WIDTH - MARGIN), _scale(0, 1, 150, 12)
    made: list[Html] = _axis(place, ticks(low, high, 4), 150, words, 12)
    for share in (0.5, 0.9, 0.99):
        y = rise(share)
        made += [_line(40, y, WIDTH - MARGIN, y, "grid"),
                 _text(36, y + 4, f"{share:.0%}", "tick", "end")]  # fmt: skip
    for one in series:
        values = sorted(one.values)
        every = max(1, len(values) // 200)
        path = f"M{place(values[0])},{rise(0)}"
        for at in range(0, len(values), every):
            path += f"H{place(values[at])}V{rise((at + 1) / len(values))}"
        made.append(el("path", d=f"{path}H{place(high)}", class_=f"curve {one.kind}"))
    told = "; ".join(f"{one.label}: half done by {words(_median(one.values))}" for one in series)
    return _svg(WIDTH, 170, title, told, made)


def memory(title: str, series: Sequence[Series], words: Words, described: str) -> Html:
    """Bytes at each operator from the first to the last; of many the largest of neighbours."""
    top, bottom, left = 22, 170, 64
    high = max((max(one.values, default=0.0) for one in series), default=0.0) or 1.0
    rise = _scale(0, high, bottom, top)
    made: list[Html] = []
    for value in size_ticks(0, high):
        y = rise(value)
        made += [_line(left, y, WIDE - MARGIN, y, "grid"),
                 _text(left - 6, y + 4, _trimmed(words(value)), "tick", "end")]  # fmt: skip
    for one in series:
        count = len(one.values)
        columns = min(count, CELLS) or 1
        across = _scale(0, columns, left, WIDE - MARGIN)
        path = f"M{left},{bottom}"
        for at in range(columns):
            part = one.values[at * count // columns : max(1, (at + 1) * count // columns)]
            path += f"V{rise(max(part, default=0.0))}H{across(at + 1)}"
        kind = "area" if one is series[-1] else "curve"
        made.append(el("path", d=f"{path}V{bottom}", class_=f"{kind} {one.kind}"))
    for at, one in enumerate(series):
        made += _legend(left + 4 + 150 * at, 12, one)
    made += _ends(left, bottom, max(len(one.values) for one in series))
    return _svg(WIDE, bottom + 22, title, described, made)


def _legend(x: float, y: float, one: Series) -> list[Html]:
    return [el("rect", x=x, y=y - 9, width=10, height=10, class_=f"area {one.kind}"),
            _text(x + 15, y, one.label, "label")]  # fmt: skip


def scatter(
    title: str, values: Sequence[float | None], marks: Sequence[Mark], words: Words, described: str
) -> Html:
    """A dot for each operator, and limits across."""
    left, top, bottom = 64, 14, 170
    known = [value for value in values if value is not None and math.isfinite(value)]
    known += [mark.value for mark in marks]
    low, high = min(known, default=0.0), max(known, default=1.0)
    pad = (high - low) * 0.06 or 1.0
    rise = _scale(low - pad, high + pad, bottom, top)
    across = _scale(0, max(1, len(values)), left + 6, WIDE - MARGIN)
    made: list[Html] = []
    for value in ticks(low - pad, high + pad, 5):
        made += [_line(left, rise(value), WIDE - MARGIN, rise(value), "grid"),
                 _text(left - 6, rise(value) + 4, words(value), "tick", "end")]  # fmt: skip
    for mark in marks:
        y = rise(mark.value)
        made += [_line(left, y, WIDE - MARGIN, y, f"mark {mark.kind}"),
                 _text(WIDE - MARGIN, y - 5, mark.words, f"marked {mark.kind}", "end")]  # fmt: skip
    made += [
        el("circle", cx=across(at + 0.5), cy=rise(value), r=3, class_="dot mine")
        for at, value in enumerate(values)
        if value is not None and math.isfinite(value)
    ]
    made += _ends(left, bottom, len(values))
    return _svg(WIDE, bottom + 22, title, described, made)


def _ends(left: float, bottom: float, count: int) -> list[Html]:
    return [
        _text(left, bottom + 15, "first operator", "tick"),
        _text(WIDE - MARGIN, bottom + 15, f"last of {count:,}", "tick", "end"),
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
