"""Shares of samples: Wilson's interval of one, Tango's of a paired difference, McNemar's test."""

from __future__ import annotations

import math
from statistics import NormalDist

TURNS = 60
"""Halvings of an interval of length 2: beyond what a double holds."""


def wilson(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share; it holds up at 0 and at 1, where the usual one has no width."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / count
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    low = 0.0 if hits == 0 else (centre - half) / scale
    high = 1.0 if hits == count else (centre + half) / scale
    return low, high


def tango(gained: int, lost: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of (gained - lost) / count, of samples that both sides were given.

    It holds those differences that a score test does not reject: at 0 that is McNemar's test
    (Tango, Statistics in Medicine 17, 1998). It has a width where the two never differ.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    seen = (gained - lost) / count

    def rejected(difference: float) -> bool:
        return _score(gained, lost, count, difference) ** 2 > z * z

    ends = []
    for edge in (-1.0, 1.0):
        inside, outside = seen, edge
        if not rejected(outside):
            ends.append(outside)
            continue
        for _ in range(TURNS):
            middle = (inside + outside) / 2
            if rejected(middle):
                outside = middle
            else:
                inside = middle
        ends.append(inside)
    return ends[0], ends[1]


def _score(gained: int, lost: int, count: int, difference: float) -> float:
    """How far what was seen lies from a true difference, in its standard errors."""
    a = 2 * count
    b = -gained - lost + (2 * count - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = count * (2 * share + difference * (1 - difference))
    distance = gained - lost - count * difference
    if variance <= 1e-12:
        return 0.0 if abs(distance) < 1e-9 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p of as many gained and lost if neither were likelier."""
    differing, fewer = gained + lost, min(gained, lost)
    return min(1.0, 2 * _binomial_up_to(fewer, differing))


def mcnemar_mid(gained: int, lost: int) -> float:
    """As `mcnemar`, with half of the weight of what was seen: the exact one is too careful.

    (Fagerland, Lydersen, Laake, BMC Medical Research Methodology 13:91, 2013.)
    """
    differing, fewer = gained + lost, min(gained, lost)
    if gained == lost:
        return 1.0 - 0.5 * _binomial(fewer, differing) if differing else 1.0
    return min(1.0, 2 * _binomial_up_to(fewer, differing) - _binomial(fewer, differing))


def _binomial(hits: int, count: int) -> float:
    """At a share of a half; by logarithms, since ten thousand choose half of them overflows."""
    choose = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return math.exp(choose - count * math.log(2))


def _binomial_up_to(hits: int, count: int) -> float:
    return math.fsum(_binomial(each, count) for each in range(hits + 1))
