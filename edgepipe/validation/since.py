"""What changed since the run that was accepted: paired where its samples are known one by one."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepipe.validation import proportions
from edgepipe.validation.evidence import Interval, Score, Validation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def keep(right: NDArray[np.bool_]) -> str:
    """One bit a sample, as text: 2 KB for ten thousand answers that are mostly right."""
    import numpy as np

    return base64.b64encode(zlib.compress(np.packbits(right).tobytes(), 9)).decode()


def kept(text: str, count: int) -> NDArray[np.bool_] | None:
    """The bits again; None where there are none, or not as many."""
    import numpy as np

    try:
        packed = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), np.uint8)
    except (binascii.Error, zlib.error):
        return None
    if not 0 <= 8 * len(packed) - count < 8:
        return None
    return np.unpackbits(packed, count=count).astype(bool)


@dataclass(frozen=True)
class Change:
    """How much higher a figure is than it was; None where that is not known, and `words` say why.

    `differing` counts the samples whose answers changed, where that is known.
    """

    interval: Interval | None
    words: str = "since the accepted run"
    differing: int | None = None


def change(score: Score, found: Validation, accepted: Mapping[str, Any]) -> Change:
    """By the best of these that is possible:

    1. The same file has the same figure.
    2. Shares on the same samples are paired sample by sample.
    3. On the same samples and beside the same float model, the two paired differences are
       compared; what makes samples hard is in neither.
    4. Else the two figures are, as of samples that have nothing in common.
    """
    earlier = _score_in(score, accepted)
    if earlier is None:
        return Change(None, f"the accepted run has no {score.metric} of {score.output!r}")
    now_on, then_on = ((_of(part, "digest"), _of(part, "truth"))
                       for part in (found.data, accepted.get("data")))  # fmt: skip
    same_data = now_on == then_on and now_on[0] is not None
    if same_data and _of(found.candidate, "sha256") == _of(accepted.get("candidate"), "sha256"):
        return Change(Interval(0.0, 0.0, 0.0, score.candidate.level), differing=0)
    if same_data and score.samples == earlier["samples"]:
        now, then = (kept(text, score.samples) for text in (score.kept, earlier.get("kept") or ""))
        if now is not None and then is not None:
            paired = _paired(now, then, score.candidate.level)
            return Change(paired, differing=int((now != then).sum()))
    same_float = _of(found.baseline, "sha256") == _of(accepted.get("baseline"), "sha256")
    if same_data and same_float and score.difference is not None and earlier.get("difference"):
        before = Interval(**earlier["difference"])
        return Change(apart(score.difference, before))
    words = Change.words + ("" if same_data else ", which had other samples,")
    return Change(apart(score.candidate, Interval(**earlier["candidate"])), words)


def _score_in(score: Score, accepted: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for one in accepted.get("scores") or ():
        if (one["metric"], one["output"]) == (score.metric, score.output):
            found: Mapping[str, Any] = one
            return found
    return None


def _of(part: Mapping[str, Any] | None, name: str) -> Any:
    return None if part is None else part.get(name)


def _paired(now: NDArray[np.bool_], then: NDArray[np.bool_], level: float) -> Interval:
    gained, lost = int((now & ~then).sum()), int((~now & then).sum())
    low, high = proportions.tango(gained, lost, len(now), level)
    return Interval(100 * (gained - lost) / len(now), 100 * low, 100 * high, level)


def apart(now: Interval, then: Interval) -> Interval:
    """The difference of two figures that were measured apart, out of their own intervals.

    Each end is as far off as both ends that make it, by Pythagoras (Zou and Donner, Statistics in
    Medicine 27, 2008); figures that vary together would only make it narrower.
    """
    value = now.value - then.value
    below = math.hypot(now.value - now.low, then.high - then.value)
    above = math.hypot(now.high - now.value, then.value - then.low)
    return Interval(value, value - below, value + above, now.level)


def growth(now: Interval, then: Interval) -> Interval:
    """The same of two positive figures as a ratio, less 1."""
    change = apart(_log(now), _log(then))
    return Interval(
        math.expm1(change.value), math.expm1(change.low), math.expm1(change.high), now.level
    )


def _log(interval: Interval) -> Interval:
    tiny = 1e-12
    value, low, high = (
        math.log(max(tiny, end)) for end in (interval.value, interval.low, interval.high)
    )
    return Interval(value, low, high, interval.level)
