"""The ratio of two latencies with its interval, and what a limit on it comes to: pure figures.

Each pair of blocks, one of either side in an order that was drawn, gives one logarithm of a
ratio. Were both sides equally fast, its sign would be that draw alone, however noisy, drifting
or bursting the machine is: so the interval of Wilcoxon's signed ranks holds by the design of
the experiment, and noise makes it wide instead of wrong.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

from edgepipe.validation.evidence import Gate, Interval, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95
FIRST_LOOK, LOOKS = 10, 10
"""Pairs at the first look at the figures, which double from look to look."""
MOST_PAIRS = FIRST_LOOK << (LOOKS - 2)
"""The last of the looks is for the end of the budget, wherever that falls."""
EXACT = 60
"""Pairs up to which the distribution of the rank sum is counted out."""


def is_look(pairs: int) -> bool:
    """Whether the figures are looked at after so many pairs."""
    share, rest = divmod(pairs, FIRST_LOOK)
    return rest == 0 and share > 0 and share & (share - 1) == 0


def ratio_interval(log_ratios: Sequence[float], looks: int = LOOKS) -> Interval | None:
    """Candidate to baseline, over pairs; None where they are too few for any interval.

    Its level holds over all `looks` together, so that one may stop at the first that tells.
    """
    import numpy as np

    pairs = np.asarray(log_ratios, np.float64)
    rank = _critical(len(pairs), (1 - LEVEL) / looks)
    if rank < 0:
        return None
    walsh = _walsh(pairs)
    low, high = walsh[rank], walsh[len(walsh) - 1 - rank]
    middle = float(np.median(walsh))
    return Interval(math.exp(middle), math.exp(low), math.exp(high), LEVEL)


def _walsh(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means of all pairs of values, each with itself too, sorted."""
    import numpy as np

    first, second = np.triu_indices(len(values))
    return np.sort((values[first] + values[second]) / 2)


@functools.cache
def _critical(count: int, alpha: float) -> int:
    """How many of the sorted means lie outside on either side; -1 where even none is too many."""
    most = count * (count + 1) // 2
    if count > EXACT:
        spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
        return math.floor(most / 2 - NormalDist().inv_cdf(1 - alpha / 2) * spread) - 1
    ways = [1] + [0] * most  # of drawing signs so that the ranks above zero sum to this
    for rank in range(1, count + 1):
        for total in range(most, rank - 1, -1):
            ways[total] += ways[total - rank]
    below, rank = ways[0], 0
    while 2 * below <= alpha * 2**count:
        rank += 1
        below += ways[rank]
    return rank - 1


def judge(ratio: Interval | None, limit: float) -> Verdict:
    """Passed or failed where the whole interval is on one side of the limit."""
    if ratio is None or ratio.low <= limit < ratio.high:
        return Verdict.UNDECIDED
    return Verdict.PASSED if ratio.high <= limit else Verdict.FAILED


def more_seconds(ratio: Interval | None, limit: float, spent: float) -> float | None:
    """How much longer would probably tell; None where the ratio is at the limit itself.

    An interval narrows with the root of the time, and must get as narrow as its middle is far.
    """
    if ratio is None:
        return None
    gap = abs(math.log(ratio.value / limit))
    half = max(math.log(ratio.high / ratio.value), math.log(ratio.value / ratio.low))
    if gap < half / 100:
        return None
    # A fifth more, as the middle moves, too.
    return max(0.0, spent * (1.2 * (half / gap) ** 2 - 1))


def ratio_gate(
    ratio: Interval | None, limit: float, spent: float, name: str = "max-latency-ratio"
) -> Gate:
    """What the limit comes to, after `spent` seconds of measuring."""
    verdict = judge(ratio, limit)
    asked = f"{limit:g}"
    if ratio is None:
        return Gate(
            name, asked, "-", verdict,
            f"the latencies of the two models were not measured often enough to compare them in"
            f" {spent:.0f} s: give --latency-budget more seconds",
        )  # fmt: skip
    seen = f"{ratio.value:.3g} ({ratio.low:.3g} to {ratio.high:.3g})"
    it_takes = f"it takes {ratio.value:.3g} times as long as the baseline"
    between = f"{ratio.low:.3g} to {ratio.high:.3g} at {ratio.level:.0%}"
    if verdict is not Verdict.UNDECIDED:
        words = "at most" if verdict is Verdict.PASSED else "more than"
        return Gate(name, asked, seen, verdict, f"{it_takes} ({between}), {words} {asked}")
    more = more_seconds(ratio, limit, spent)
    ask = (
        f"about {math.ceil(more)} s more would tell (--latency-budget {math.ceil(spent + more)})"
        if more is not None and more < 3600
        else "it is too near to the limit to tell in any reasonable time"
    )
    return Gate(
        name, asked, seen, verdict, f"{it_takes} ({between}), and the limit is {asked}: {ask}"
    )


def quantile_interval(times: Sequence[float], share: float, seed: int = 0) -> Interval | None:
    """A quantile of latencies in the order of measurement, by a bootstrap of stretches of them.

    Neighbours are alike (a burst of other work, a clock that falls), so stretches are drawn and
    not single runs. None for fewer than 20 runs.
    """
    import numpy as np

    values = np.asarray(times, np.float64)
    count = len(values)
    if count < 20:
        return None
    random = np.random.default_rng(seed)
    stretch = max(1, round(count / 20))
    draws = math.ceil(count / stretch)
    starts = random.integers(0, count, (500, draws, 1))
    taken = ((starts + np.arange(stretch)) % count).reshape(500, -1)[:, :count]
    found = np.quantile(values[taken], share, axis=1)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    middle = float(np.quantile(values, share))
    return Interval(middle, min(float(low), middle), max(float(high), middle), LEVEL)


def quantile_gate(name: str, times: Sequence[float], share: float, limit: float) -> Gate:
    """A limit in milliseconds on a quantile: `max-latency` is of the half, `max-p99` of 0.99."""
    found = quantile_interval(times, share)
    asked, what = f"{limit:g} ms", f"p{share * 100:g}"
    if found is None:
        return Gate(
            name, asked, "-", Verdict.UNDECIDED,
            f"{len(times)} runs are too few to tell its {what}: give --latency-budget more seconds",
        )  # fmt: skip
    low, middle, high = (1000 * one for one in (found.low, found.value, found.high))
    seen = f"{middle:.3g} ms ({low:.3g} to {high:.3g})"
    verdict = judge(Interval(middle, low, high), limit)
    words = {
        Verdict.PASSED: f"at most {asked}",
        Verdict.FAILED: f"more than {asked}",
        Verdict.UNDECIDED: f"and the limit is {asked}: measure longer with --latency-budget",
    }[verdict]
    return Gate(name, asked, seen, verdict, f"its {what} is {seen}, {words}")
