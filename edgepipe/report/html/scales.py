"""Scales of plots: from values to places, marks at round values, powers of ten if need be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgepipe.report.html.wording import MINUS, number

LOGARITHMIC = 8
"""The largest to the smallest value, from which on a scale goes by powers of ten."""
Words = Callable[[float], str]


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` become places from `start` to `end`; others one of these."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    @staticmethod
    def over(low: float, high: float, start: float, end: float) -> Scale:
        """By powers of ten where the values are so far apart that one would be seen only."""
        return Scale(low, high, start, end, low > 0 and high / low > LOGARITHMIC)

    def __call__(self, value: float) -> float:
        low, high, here = self.low, self.high, min(max(self.low, value), self.high)
        if self.logarithmic:
            low, high, here = math.log10(low), math.log10(high), math.log10(here)
        return round(self.start + (here - low) / ((high - low) or 1.0) * (self.end - self.start), 1)

    def ticks(self, most: int = 5) -> list[float]:
        return powers(self.low, self.high) if self.logarithmic else ticks(self.low, self.high, most)


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


def powers(low: float, high: float) -> list[float]:
    """Those of ten in a range, and halves between them where they are few."""
    places = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1.0, 3.0) if len(places) < 5 else (1.0,)
    found = [factor * 10.0**place for place in places for factor in factors]
    inside = [one for one in found if low <= one <= high]
    return inside[:: max(1, -(-len(inside) // 6))] or [low]


def trimmed(words: str) -> str:
    """1.50 as 1.5 and 2.00 ms as 2 ms: a scale's marks are exact."""
    return re.sub(r"(\.\d*?)0+(?!\d)", lambda found: found[1].rstrip("."), words)


def exact(values: Sequence[float]) -> list[str]:
    """With as many digits as tell neighbours apart."""
    step = min((abs(b - a) for a, b in pairwise(values)), default=1.0)
    digits = max(0, math.ceil(-math.log10(step) - 1e-9)) if step else 0
    return [f"{value:,.{digits}f}".replace("-", MINUS) for value in values]


def size_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round values of a range of bytes, as KiB and MiB count."""
    unit = 1024.0 ** max(0, int(math.log(max(high, 1.0), 1024)))
    return [one * unit for one in ticks(low / unit, high / unit, most)]


def told(values: Sequence[float], words: Words, logarithmic: bool = False) -> list[str]:
    """Marks of a scale in words, told apart."""
    said = [trimmed(words(value)) for value in values]
    if not logarithmic and (len(set(said)) < len(said) or words is number):
        return exact(values)
    return said
