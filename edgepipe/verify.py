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

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Port, Signature
from edgepipe.figures import (
    FLOAT_DB,
    FLOOR,
    TINY,
    agreement_of,
    has_finite,
    is_finite,
    largest_of,
    lost_channels,
    relative_error,
    same_specials,
    sqnr_db,
)
from edgepipe.proof import PERFECT_DB, OutputProof, Proof, Tolerance
from edgepipe.runner import to_file_layout, to_given_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

USUAL_DB = 90
"""What converters reach that do nothing but move float operators."""

Layouts = Mapping[str, Sequence[tuple[int, ...] | None]]


def compare(
    reference: Sequence[Tensors],
    candidate: Sequence[Tensors],
    ends: Signature,
    tolerance: Tolerance,
    layouts: Layouts | None = None,
    given: bool = False,
) -> Proof:
    """Prove `candidate` against `reference`; in both the last sample is the first one again (6).

    `layouts` lists the permutations that an output of the candidate may have had; the one
    under which the values agree is returned in `permutations`. `given` samples are the user's.
    """
    samples = len(reference) - 1
    failures = _check_ends(reference, candidate, ends)  # (1)
    if failures:
        return Proof(max(samples, 0), failures=failures)
    usable, failures, notes = _usable(reference, given)
    if failures:
        return Proof(samples, failures=failures, reference_failed=True)
    proofs, permutations = [], {}
    for port in ends.outputs:
        column = [sample[port.name] for sample in candidate]
        wanted = [reference[index][port.name] for index in usable]
        if layouts and port.name in layouts:
            port, column = _settle(wanted, column, usable, port, layouts[port.name])
            permutations[port.name] = port.permutation
        proofs.append(_prove_output(port.name, wanted, column, usable, tolerance))
        notes += _says_little(port.name, wanted, tolerance, given)
        notes += _loses_much(proofs[-1], tolerance)
    return Proof(samples, tuple(proofs), notes=notes, permutations=permutations)


def without_overflows(
    reference: Sequence[Tensors], candidate: Sequence[Tensors], far: Sequence[int]
) -> tuple[list[Tensors], list[Tensors], tuple[str, ...]]:
    """Both without the `far` samples on which only the candidate gives NaN or infinity.

    TFLite's softplus is log(1 + exp(x)), infinite from 89 on. That is worth a note; a model
    whose own inputs never lead there is not broken by it.
    """
    if len(candidate) != len(reference):
        return list(reference), list(candidate), ()
    lost = {
        index
        for index in far
        if all(map(is_finite, reference[index].values()))
        and not all(map(is_finite, candidate[index].values()))
    }
    kept = [index for index in range(len(reference)) if index not in lost]
    notes = (
        f"it gives NaN or infinity on {len(lost)} of {len(far)} samples far from usual inputs,"
        " where the model does not: give real samples with --samples",
    )
    return (
        [reference[index] for index in kept],
        [candidate[index] for index in kept],
        notes if lost else (),
    )


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
    name: str, wanted: Sequence[NDArray[Any]], tolerance: Tolerance, given: bool
) -> tuple[str, ...]:
    """An output that no sample moves would be the same with half of the model gone."""
    if len(wanted) < 2 or any(
        other.shape != wanted[0].shape or sqnr_db(wanted[0], other, TINY) < tolerance.sqnr_db
        for other in wanted[1:]
    ):
        return ()
    return (f"output {name!r} is the same on every sample, which proves little: {_ask(given)}",)


def _ask(given: bool) -> str:
    return "give other samples" if given else "give real samples with --samples"


def _loses_much(proof: OutputProof, tolerance: Tolerance) -> tuple[str, ...]:
    """Passed, but worse than float arithmetic explains: worth a look."""
    if tolerance.sqnr_db < FLOAT_DB or proof.failures or proof.sqnr_db >= USUAL_DB:
        return ()
    return (
        f"output {proof.name!r} keeps {proof.sqnr_db:.0f} dB, where float32 usually keeps"
        f" {USUAL_DB} and more: an approximated function, or a weight that was narrowed?",
    )


def _usable(
    reference: Sequence[Tensors], given: bool
) -> tuple[list[int], tuple[str, ...], tuple[str, ...]]:
    """The samples on which the reference says something, and what is wrong with the reference."""
    for name, first in reference[0].items():
        if not _same(first, reference[-1][name]):  # (6)
            return [], (
                f"the model itself is random: output {name!r} differs when the same sample"
                " is run twice (a layer left in training mode?)",
            ), ()  # fmt: skip
    for name in reference[0]:
        if not any(has_finite(sample[name]) for sample in reference):
            return [], (
                f"the model itself gives nothing but NaN or infinity in output {name!r}"
                f" on {'the given' if given else 'random'} samples: {_ask(given)}",
            ), ()  # fmt: skip
    count = len(reference) - 1
    finite = [
        index
        for index in range(count)
        if all(is_finite(output) for output in reference[index].values())
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
    if not all(same_specials(a, b) for a, b in pairs):  # (3)
        failures.append("NaN or infinity where the model gives numbers, or the other way round")
    if not _same(column[0], column[-1]):  # (6)
        failures.append("it differs when the same sample is run twice: something random was left")
    floor = max(TINY, FLOOR * max(largest_of(a) for a in wanted))
    worst_db = min(sqnr_db(a, b, floor) for a, b in pairs)
    worst_error = max(relative_error(a, b, floor) for a, b in pairs)
    agreement = agreement_of(pairs, tolerance)
    failures += _check_figures(worst_db, worst_error, agreement, tolerance)
    if not failures:
        failures += lost_channels(pairs, tolerance, floor)
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
        and same_specials(first, again)
        and sqnr_db(first, again, TINY) > 80
    )
