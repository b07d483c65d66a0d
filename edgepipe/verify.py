"""Both ends of an arrow on the same samples: do they compute the same?

The comparator knows tensors and names, no framework. Numbered, because messages and tests
refer to them:
1. the outputs have the same names, in the same order;
2. each has the same shape, in the layout of the given model, and a type of the same kind;
3. NaN and infinity stand at the same places;
4. the signal-to-noise ratio (SQNR) and the largest error relative to the output's range hold,
   and no channel is lost beside larger ones: boxes in pixels would hide their scores;
5. the largest element along the last axis is the same one (ties aside), and so are integers;
6. the first sample run again gives the same: nothing random was left in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.artifact import Port, Signature
from edgepipe.proof import PERFECT_DB, WORST_ERROR, OutputProof, Proof, Tolerance
from edgepipe.runner import to_file_layout, to_given_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

Layouts = Mapping[str, Sequence[tuple[int, ...] | None]]
TINY = 1e-30
"""Float32 that is denormal, or nearly: runtimes flush it to zero."""
FLOOR = 1e-3
"""A sample whose output is smaller than this share of its range over all samples is measured
against this share: a saturated sigmoid may give 1e-22 here and 2e-22 there."""
CHANNEL_SLACK_DB, CHANNEL_FLOOR_DB, CHANNEL_ELEMENTS = 20, 30, 32
"""A channel may be this much worse than the whole output; noise this far below what the whole
may have is no loss; and fewer elements than this are no channel."""


def compare(
    reference: Sequence[Tensors],
    candidate: Sequence[Tensors],
    ends: Signature,
    tolerance: Tolerance,
    layouts: Layouts | None = None,
) -> Proof:
    """Prove `candidate` against `reference`; in both the last sample is the first one again (6).

    `layouts` lists the permutations that an output of the candidate may have had; the one
    under which the values agree is returned in `permutations`.
    """
    samples = len(reference) - 1
    failures = _check_ends(reference, candidate, ends)  # (1)
    if failures:
        return Proof(max(samples, 0), failures=failures)
    usable, failures, notes = _usable(reference)
    if failures:
        return Proof(samples, failures=failures)
    proofs, permutations = [], {}
    for port in ends.outputs:
        column = [sample[port.name] for sample in candidate]
        wanted = [reference[index][port.name] for index in usable]
        if layouts and port.name in layouts:
            port, column = _settle(wanted, column, usable, port, layouts[port.name])
            permutations[port.name] = port.permutation
        proofs.append(_prove_output(port.name, wanted, column, usable, tolerance))
        notes += _says_little(port.name, wanted, tolerance)
    return Proof(samples, tuple(proofs), notes=notes, permutations=permutations)


def _check_ends(
    reference: Sequence[Tensors], candidate: Sequence[Tensors], ends: Signature
) -> tuple[str, ...]:
    """Whether there is the same to compare on both sides, and anything at all."""
    if len(reference) < 2 or not reference[0]:
        return ("there is nothing to compare: no samples or no outputs",)
    if len(candidate) != len(reference):
        return (f"it ran on {len(candidate)} samples of {len(reference)}",)
    expected = list(reference[0])
    for received in (*map(list, reference), *map(list, candidate), [p.name for p in ends.outputs]):
        if expected != received:
            swapped = sorted(expected) == sorted(received)
            words = "in another order" if swapped else "under other names"
            return (f"the outputs come {words}: expected {expected}, received {received}",)
    return ()


def _says_little(
    name: str, wanted: Sequence[NDArray[Any]], tolerance: Tolerance
) -> tuple[str, ...]:
    """An output that no sample moves would be the same with half of the model gone."""
    if len(wanted) < 2 or any(
        other.shape != wanted[0].shape or sqnr_db(wanted[0], other, TINY) < tolerance.sqnr_db
        for other in wanted[1:]
    ):
        return ()
    return (
        f"output {name!r} is the same on every sample, which proves little:"
        " give real samples with --samples",
    )


def _usable(reference: Sequence[Tensors]) -> tuple[list[int], tuple[str, ...], tuple[str, ...]]:
    """The samples on which the reference says something, and what is wrong with the reference."""
    for name, first in reference[0].items():
        if not _same(first, reference[-1][name]):  # (6)
            return [], (
                f"the model itself is random: output {name!r} differs when the same sample"
                " is run twice (a layer left in training mode?)",
            ), ()  # fmt: skip
    for name in reference[0]:
        if not any(_has_finite(sample[name]) for sample in reference):
            return [], (
                f"the model itself gives nothing but NaN or infinity in output {name!r}:"
                " give real samples with --samples",
            ), ()  # fmt: skip
    count = len(reference) - 1
    finite = [
        index
        for index in range(count)
        if all(_is_finite(output) for output in reference[index].values())
    ]
    if finite and len(finite) < count:
        return finite, (), (f"{count - len(finite)} samples on which the model gives NaN or"
                            " infinity were left out",)  # fmt: skip
    return (finite or list(range(count))), (), ()


def _settle(
    wanted: list[NDArray[Any]],
    column: list[NDArray[Any]],
    usable: list[int],
    port: Port,
    candidates: Sequence[tuple[int, ...] | None],
) -> tuple[Port, list[NDArray[Any]]]:
    """Find the layout that the tool gave an output, by its values; the first of equals wins."""
    in_file = [to_file_layout(array, port) for array in column]
    best: tuple[float, Port] | None = None
    for permutation in candidates:
        if permutation is not None and len(permutation) != in_file[0].ndim:
            continue
        guess = replace(port, permutation=permutation)
        shown = [to_given_layout(in_file[index], guess) for index in usable]
        if all(a.shape == b.shape for a, b in zip(wanted, shown, strict=True)):
            score = min(sqnr_db(a, b, TINY) for a, b in zip(wanted, shown, strict=True))
            if best is None or score > best[0]:
                best = (score, guess)
    if best is None:
        return port, column
    return best[1], [to_given_layout(array, best[1]) for array in in_file]


def _prove_output(
    name: str,
    wanted: list[NDArray[Any]],
    column: list[NDArray[Any]],
    usable: list[int],
    tolerance: Tolerance,
) -> OutputProof:
    pairs = [(a, column[index]) for a, index in zip(wanted, usable, strict=True)]
    for a, b in pairs:
        wrong = _check_kind(a, b)  # (2)
        if wrong:
            return OutputProof(name, -PERFECT_DB, None, None, (wrong,))
    failures: list[str] = []
    if not all(_same_specials(a, b) for a, b in pairs):  # (3)
        failures.append("NaN or infinity where the model gives numbers, or the other way round")
    if not _same(column[0], column[-1]):  # (6)
        failures.append("it differs when the same sample is run twice: something random was left")
    floor = max(TINY, FLOOR * max(_largest(a) for a in wanted))
    worst_db = min(sqnr_db(a, b, floor) for a, b in pairs)
    worst_error = max(relative_error(a, b, floor) for a, b in pairs)
    agreement = _agreement(pairs)
    failures += _check_figures(worst_db, worst_error, agreement, tolerance)
    if not failures:
        failures += _lost_channels(pairs, tolerance, floor)
    return OutputProof(name, worst_db, worst_error, agreement, tuple(failures))


def _check_figures(
    worst_db: float, worst_error: float, agreement: float | None, tolerance: Tolerance
) -> list[str]:
    failures = []
    if worst_db < tolerance.sqnr_db:  # (4)
        failures.append(f"{worst_db:.1f} dB, expected at least {tolerance.sqnr_db:g} dB")
    if worst_error > tolerance.relative_error:
        failures.append(
            f"an error of {worst_error:.2g} of its range, expected {tolerance.relative_error:g}"
        )
    if agreement is not None and agreement < tolerance.argmax_agreement:  # (5)
        failures.append(
            f"the same largest element, or integer, in only {agreement:.4g} of all places,"
            f" expected {tolerance.argmax_agreement:g}"
        )
    return failures


def _lost_channels(
    pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], tolerance: Tolerance, floor: float
) -> list[str]:
    """The worst channel along any axis, where it is lost beside the larger ones (4)."""
    least_db = tolerance.sqnr_db - CHANNEL_SLACK_DB
    allowed = 10 ** (-(tolerance.sqnr_db + CHANNEL_FLOOR_DB) / 20)
    for wanted, received in pairs:
        a, b = _finite_or_zero(wanted, received)
        least_noise = (allowed * max(floor, float(np.max(np.abs(a), initial=0.0)))) ** 2
        for axis, size in enumerate(a.shape):
            if size < 2 or a.size // size < CHANNEL_ELEMENTS:
                continue
            others = tuple(other for other in range(a.ndim) if other != axis)
            noise = np.mean(np.square(a - b), axis=others)
            signal = np.mean(np.square(a), axis=others)
            lost = (noise > least_noise) & (noise > signal * 10 ** (-least_db / 10))
            if lost.any():
                return [f"index {int(np.argmax(lost))} of axis {axis} is lost beside larger ones"]
    return []


def _check_kind(wanted: NDArray[Any], received: NDArray[Any]) -> str:
    if wanted.shape != received.shape:
        return f"shape {list(received.shape)}, expected {list(wanted.shape)}"
    if _kind(wanted) != _kind(received):
        return f"type {received.dtype}, expected {wanted.dtype}"
    return ""


def _kind(array: NDArray[Any]) -> str:
    """Widths may differ (TFLite has no int64 argmax everywhere); integers don't become floats."""
    return {"u": "i"}.get(array.dtype.kind, array.dtype.kind)


def _same(first: NDArray[Any], again: NDArray[Any]) -> bool:
    """Equal but for what the order of parallel sums may change."""
    return (
        first.shape == again.shape
        and _same_specials(first, again)
        and sqnr_db(first, again, TINY) > 80
    )


def _is_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _has_finite(array: NDArray[Any]) -> bool:
    return not array.size or array.dtype.kind != "f" or bool(np.isfinite(array).any())


def _same_specials(a: NDArray[Any], b: NDArray[Any]) -> bool:
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


def _largest(array: NDArray[Any]) -> float:
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


def _agreement(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float | None:
    """The share of integers that are the same, or of rows with the same largest element.

    Only rows where it is a clear one count; None where there are none.
    """
    same = total = 0
    for wanted, received in pairs:
        if wanted.dtype.kind != "f":
            same += int((wanted == received).sum())
            total += wanted.size
        elif wanted.ndim >= 2 and wanted.shape[-1] >= 2 and wanted.size:
            rows = wanted.reshape(-1, wanted.shape[-1])
            others = received.reshape(-1, wanted.shape[-1])
            clear = _clear_rows(rows)
            total += int(clear.sum())
            same += int((rows.argmax(-1) == others.argmax(-1))[clear].sum())
    return same / total if total else None


def _clear_rows(rows: NDArray[Any]) -> NDArray[np.bool_]:
    top = np.partition(rows, -2, axis=-1)[:, -2:].astype(np.float64)
    with np.errstate(invalid="ignore"):  # Infinity less infinity is no clear lead.
        clear: NDArray[np.bool_] = (top[:, 1] - top[:, 0]) > 1e-3 * max(_largest(rows), TINY)
    return clear
