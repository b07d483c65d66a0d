"""Figures over pairs of arrays: noise, error, agreement, channels that are lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.proof import PERFECT_DB, WORST_ERROR, Tolerance

if TYPE_CHECKING:
    from numpy.typing import NDArray

TINY = 1e-30
"""Float32 that is denormal, or nearly: runtimes flush it to zero."""
FLOOR = 1e-3
"""A sample whose output is smaller than this share of its range over all samples is measured
against this share: a saturated sigmoid may give 1e-22 here and 2e-22 there."""
CHANNEL_SLACK_DB, CHANNEL_FLOOR_DB, CHANNEL_ELEMENTS = 20, 30, 4
"""A channel may be this much worse than the whole output; noise this far below what the whole
may have is no loss; and fewer elements than this, over all samples, are no channel."""
FLOAT_DB = 40
"""Tolerances from here on are those of float arrows, of which small differences survive too."""
LOST_SHARE = 0.25
"""Noise of this share of what an element does across the samples has drowned it."""
DROWNED_DB, LOUDER_DB = 20, 12
"""A channel that is drowned may have this much less noise than others may have, if it is this much
noisier than the loudest channel: scores of 0.05 beside boxes of 640 pixels. Arithmetic spreads its
noise over all of them."""


def lost_channels(
    pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], tolerance: Tolerance, floor: float
) -> list[str]:
    """The worst channel along any axis, where it is lost beside the larger ones (4).

    Each sample on its own, where a channel has elements enough, and all of them together: of
    `[1, 1, 6]` every element is a channel, seen once a sample.
    """
    for group in (*([pair] for pair in pairs), _alike(pairs)):
        for axis in range(group[0][0].ndim) if group else ():
            if group[0][0].shape[axis] < 2:
                continue
            count = len(group) * group[0][0].size // group[0][0].shape[axis]
            if count < CHANNEL_ELEMENTS or (len(group) == 1 and count < 8 * CHANNEL_ELEMENTS):
                continue
            lost = _lost(group, axis, tolerance, floor)
            if lost.any():
                return [f"index {int(np.argmax(lost))} of axis {axis} is lost beside larger ones"]
    if _change_is_lost(_alike(pairs), tolerance, floor):
        return ["what the samples change in it is lost beside what is the same on all of them"]
    return []


def _change_is_lost(
    group: Sequence[tuple[NDArray[Any], NDArray[Any]]], tolerance: Tolerance, floor: float
) -> bool:
    """Of 300 + 0.5 x no axis tells, if it is one number, or if the 300 is a table."""
    if len(group) < CHANNEL_ELEMENTS or tolerance.sqnr_db < FLOAT_DB:
        return False
    clean = [_finite_or_zero(*pair) for pair in group]
    wanted, received = (np.stack([pair[side] for pair in clean]) for side in (0, 1))
    if not wanted.size:
        return False
    least = (10 ** (-_floor_db(tolerance) / 20) * max(floor, float(np.abs(wanted).max()))) ** 2
    with np.errstate(over="ignore"):
        noise = float(np.mean(np.square(wanted - received)))
        change = float(np.mean(np.var(wanted, axis=0)))
    return noise > least and change > least and noise > LOST_SHARE * change


def _floor_db(tolerance: Tolerance) -> float:
    return tolerance.sqnr_db + CHANNEL_FLOOR_DB


def _alike(
    pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]],
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """All pairs, if they have one shape: an output may depend on the values for its own."""
    shapes = {wanted.shape for wanted, _ in pairs}
    return list(pairs) if len(shapes) == 1 and len(pairs) > 1 else []


def _lost(
    group: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    axis: int,
    tolerance: Tolerance,
    floor: float,
) -> NDArray[np.bool_]:
    """Which indices of the axis; every sample counts at its own scale."""
    least_db = tolerance.sqnr_db - CHANNEL_SLACK_DB
    allowed = 10 ** (-_floor_db(tolerance) / 20)
    noises, signals, means, least = [], [], [], []
    for wanted, received in group:
        a, b = _finite_or_zero(wanted, received)
        others = tuple(other for other in range(a.ndim) if other != axis)
        with np.errstate(over="ignore"):
            noises.append(np.mean(np.square(a - b), axis=others))
            signals.append(np.mean(np.square(a), axis=others))
        means.append(np.mean(a, axis=others))
        least.append((allowed * max(floor, float(np.max(np.abs(a), initial=0.0)))) ** 2)
    scale = np.array(least)[:, None]
    noise, signal = np.mean(noises / scale, axis=0), np.mean(signals / scale, axis=0)
    lost: NDArray[np.bool_] = (noise > 1) & (noise > signal * 10 ** (-least_db / 10))
    if tolerance.sqnr_db >= FLOAT_DB:
        quiet = noise[np.argmax(signal)] * 10 ** (LOUDER_DB / 10)
        lost |= (noise > max(10 ** (-DROWNED_DB / 10), quiet)) & (noise > LOST_SHARE * signal)
    if len(group) > 1 and tolerance.sqnr_db >= FLOAT_DB:
        spread = np.mean(signals, axis=0) - np.square(np.mean(means, axis=0))
        lost |= (noise > 1) & (np.mean(noises, axis=0) > LOST_SHARE * spread)
    return lost


def is_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def has_finite(array: NDArray[Any]) -> bool:
    return not array.size or array.dtype.kind != "f" or bool(np.isfinite(array).any())


def same_specials(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """NaN, infinity and minus infinity at the same places."""
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return True
    kinds = (np.isnan, np.isposinf, np.isneginf)
    return all(bool(np.array_equal(kind(a), kind(b))) for kind in kinds)


def _finite_or_zero(
    wanted: NDArray[Any], received: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64, zero where either is no number: those places are counted in (3)."""
    a, b = wanted.astype(np.float64), received.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    return np.where(finite, a, 0.0), np.where(finite, b, 0.0)


def largest_of(array: NDArray[Any]) -> float:
    a, _ = _finite_or_zero(array, array)
    return float(np.max(np.abs(a), initial=0.0))


def sqnr_db(wanted: NDArray[Any], received: NDArray[Any], floor: float = 0.0) -> float:
    """10 log10 of signal over noise; the signal is taken for no smaller than `floor`."""
    a, b = _finite_or_zero(wanted, received)
    if not a.size:
        return PERFECT_DB
    with np.errstate(over="ignore"):
        noise = float(np.mean(np.square(a - b)))
        signal = max(float(np.mean(np.square(a))), floor**2)
    if noise == 0:
        return PERFECT_DB
    if signal == 0 or not math.isfinite(noise):
        return -PERFECT_DB
    return max(-PERFECT_DB, min(PERFECT_DB, 10 * math.log10(signal / noise)))


def relative_error(wanted: NDArray[Any], received: NDArray[Any], floor: float = 0.0) -> float:
    """The largest error, as a share of the largest magnitude, or of `floor` if that is larger."""
    a, b = _finite_or_zero(wanted, received)
    error = float(np.max(np.abs(a - b), initial=0.0))
    if error == 0:
        return 0.0
    largest = max(float(np.max(np.abs(a))), floor)
    return min(WORST_ERROR, error / largest) if largest else WORST_ERROR


def agreement_of(
    pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], tolerance: Tolerance
) -> float | None:
    """The share of integers that are the same, or of rows with the same largest element.

    Only rows count where it leads by more than the noise that is allowed; None where there are
    none.
    """
    lead = max(1e-3, 2 * 10 ** (-tolerance.sqnr_db / 20))
    same = total = 0
    for wanted, received in pairs:
        if wanted.dtype.kind != "f":
            same += int((wanted == received).sum())
            total += wanted.size
        elif wanted.ndim >= 2 and wanted.shape[-1] >= 2 and wanted.size:
            rows = wanted.reshape(-1, wanted.shape[-1])
            others = received.reshape(-1, wanted.shape[-1])
            clear = _clear_rows(rows, lead)
            total += int(clear.sum())
            same += int((rows.argmax(-1) == others.argmax(-1))[clear].sum())
    return same / total if total else None


def _clear_rows(rows: NDArray[Any], lead: float) -> NDArray[np.bool_]:
    top = np.partition(rows, -2, axis=-1)[:, -2:].astype(np.float64)
    with np.errstate(invalid="ignore"):  # Infinity less infinity is no clear lead.
        clear: NDArray[np.bool_] = (top[:, 1] - top[:, 0]) > lead * max(largest_of(rows), TINY)
    return clear
