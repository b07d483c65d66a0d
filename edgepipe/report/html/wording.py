"""Figures in words, as the page says them everywhere: times, sizes, digests, intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgepipe.process_memory import words as size_words
from edgepipe.proof import PERFECT_DB
from edgepipe.report.html.markup import Html, el

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
NOTHING = "\N{EN DASH}"


def number(value: float | None, digits: int = 3) -> str:
    """To so many significant digits, never with an exponent for what people count in."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 6 and value == int(value):
        return f"{int(value):,}".replace("-", MINUS)
    if not -5 < size < 9:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    return f"{value:,.{max(0, digits - 1 - size)}f}".replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    return ("+" if value > 0 else "") + number(value, digits)


def seconds(value: float | None) -> str:
    if value is None:
        return NOTHING
    for factor, unit in ((1e6, "µs"), (1e3, "ms")) if value else ():
        if abs(value) * factor < 1000:
            return f"{number(value * factor)} {unit}"
    if value < 120:
        return f"{number(value)} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def size(value: float | None) -> str:
    return NOTHING if value is None else size_words(value)


def decibels(value: float | None) -> str:
    if value is None:
        return NOTHING
    return "equal" if value >= PERFECT_DB else f"{number(round(value, 1), 3)} dB"


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2%}"


def plainly(found: object) -> str:
    """A setting or a reading, of which some have parts, without brackets."""
    if isinstance(found, Mapping):
        return ", ".join(f"{name} {plainly(value)}" for name, value in found.items())
    if isinstance(found, (list, tuple)):
        return ", ".join(map(plainly, found))
    return number(found, 4) if isinstance(found, float) else str(found)


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def with_unit(value: float | None, unit: str, sign: bool = False) -> str:
    """Of a metric: shares as per cent, the rest with its unit behind it."""
    if value is None:
        return NOTHING
    words = signed(value) if sign else number(value, 4 if abs(value) >= 10 else 3)
    unit = "points" if unit == "%" and sign else unit  # 2 % less of 80 % would be 78.4 %.
    return f"{words}{'' if unit == '%' else ' '}{unit}".rstrip()


def interval(found: Mapping[str, Any] | None, unit: str, sign: bool = False) -> str:
    """The figure and its bounds: 0.32 points (0.11 to 0.53)."""
    if not found:
        return NOTHING
    if not found.get("level", True):
        return with_unit(found["value"], unit, sign)
    say = signed if sign else number
    low, high = say(found["low"], 3), say(found["high"], 3)
    return f"{with_unit(found['value'], unit, sign)} ({low} to {high})"


def digest(found: str) -> Html:
    """Short on the screen, whole in print and for who opens it."""
    if len(found) < 16:
        return el("code", found)
    return el(
        "details",
        el("summary", el("code", found[:12] + "…")),
        el("code", found),
        class_="digest",
    )


def shape(found: list[int | None] | None) -> str:
    if found is None:
        return "unknown shape"
    return f" {TIMES} ".join("?" if one is None else str(one) for one in found) or "scalar"
