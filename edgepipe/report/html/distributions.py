"""Distributions as SVG: how often each value came, and which share was done by it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgepipe.report.html.markup import Html, el
from edgepipe.report.html.plots import MARGIN, WIDTH, Series, axis, stroke, svg, words_at
from edgepipe.report.html.scales import LOGARITHMIC, Scale, Words
from edgepipe.report.html.wording import number


def _bounds(series: Sequence[Series]) -> tuple[float, float]:
    """From the fastest to the 99th percentile and a little: a few late ones squeeze the rest."""
    low = min(min(one.values) for one in series)
    high = max(sorted(one.values)[int(0.99 * (len(one.values) - 1))] for one in series)
    pad = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    if low > 0 and high / low > LOGARITHMIC:
        return low / 1.2, high * 1.2
    return max(0.0, low - pad), high + pad


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def histogram(title: str, series: Sequence[Series], words: Words = number) -> Html:
    """How often each value came, of both sides over each other."""
    low, high = _bounds(series)
    bins = max(8, min(48, int(math.sqrt(max(len(one.values) for one in series)) * 1.5)))
    place, top, bottom = Scale.over(low, high, MARGIN, WIDTH - MARGIN), 36, 150
    made: list[Html] = axis(place, bottom, words, top, most=4)
    width = (WIDTH - 2 * MARGIN) / bins
    late = 0
    for one in series:
        counts = [0] * bins
        for value in one.values:
            counts[min(int((place(value) - MARGIN) / width), bins - 1)] += value <= high
            late += value > high
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
            stroke(x, 4 + 15 * at, x, bottom, f"mark {one.kind}"),
            words_at(x + (-5 if anchor == "end" else 5), 13 + 15 * at,
                  f"{one.label}: median {words(middle)}", f"marked {one.kind}", anchor),
        ]  # fmt: skip
    told = "; ".join(
        f"{one.label}: {len(one.values)} runs, median {words(_median(one.values))}"
        for one in series
    )
    told += f"; {late} slower runs lie outside of the plot" if late else ""
    return svg(WIDTH, bottom + 20, title, told, made)


def ecdf(title: str, series: Sequence[Series], words: Words = number) -> Html:
    """Which share of the runs was done by then."""
    low, high = _bounds(series)
    place, rise = Scale.over(low, high, 40, WIDTH - MARGIN), Scale(0, 1, 150, 12)
    made: list[Html] = axis(place, 150, words, 12, most=4)
    for share in (0.5, 0.9, 0.99):
        y = rise(share)
        made += [stroke(40, y, WIDTH - MARGIN, y, "grid"),
                 words_at(36, y + 4, f"{share:.0%}", "tick", "end")]  # fmt: skip
    for one in series:
        values = sorted(one.values)
        every = max(1, len(values) // 200)
        path = f"M{place(values[0])},{rise(0)}"
        for at in range(0, len(values), every):
            path += f"H{place(values[at])}V{rise((at + 1) / len(values))}"
        made.append(el("path", d=f"{path}H{place(high)}", class_=f"curve {one.kind}"))
    told = "; ".join(f"{one.label}: half done by {words(_median(one.values))}" for one in series)
    return svg(WIDTH, 170, title, told, made)
