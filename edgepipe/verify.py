"""Both ends of an arrow on the same samples: do they compute the same?

The comparator knows tensors and names, no framework. Numbered, because messages and tests
refer to them:
1. the outputs have the same names, in the same order;
2. each has the same shape, in the layout of the given model, and a type of the same kind;
3. NaN and infinity stand at the same places;
4. the signal-to-noise ratio (SQNR) and the largest error relative to the output's range hold;
5. the largest element along the last axis is the same one (ties aside);
6. the first sample run again gives the same: nothing random was left in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.artifact import Port, Signature
from edgepipe.runner import to_file_layout, to_given_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

Layouts = Mapping[str, Sequence[tuple[int, ...] | None]]
PERFECT_DB = 200.0
"""Stands for no error at all, so that a figure can be printed, compared and kept as JSON."""


@dataclass(frozen=True)
class Tolerance:
    """What a float arrow may lose. The best converters lose 1e-6 (about 120 dB)."""

    sqnr_db: float = 50.0
    relative_error: float = 0.02
    argmax_agreement: float = 1.0


@dataclass(frozen=True)
class OutputProof:
    """One output over all samples, the worst sample counted."""

    name: str
    sqnr_db: float
    relative_error: float
    argmax_agreement: float | None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proof:
    """The outcome for an arrow. `failures` empty means proven."""

    samples: int
    outputs: tuple[OutputProof, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    permutations: dict[str, tuple[int, ...] | None] = field(default_factory=dict)

    @property
    def proven(self) -> bool:
        return not self.failures and not any(output.failures for output in self.outputs)

    @property
    def sqnr_db(self) -> float:
        return min((output.sqnr_db for output in self.outputs), default=0.0)

    def why(self) -> str:
        reasons = list(self.failures)
        for output in self.outputs:
            reasons.extend(f"output {output.name!r}: {reason}" for reason in output.failures)
        return "; ".join(reasons)

    def to_json(self) -> dict[str, Any]:
        return {"proven": self.proven, "sqnr_db": round(self.sqnr_db, 2), **asdict(self)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Proof:
        outputs = tuple(
            OutputProof(**{**item, "failures": tuple(item["failures"])}) for item in data["outputs"]
        )
        permutations = {
            name: None if axes is None else tuple(axes)
            for name, axes in data["permutations"].items()
        }
        return Proof(
            samples=data["samples"],
            outputs=outputs,
            failures=tuple(data["failures"]),
            notes=tuple(data["notes"]),
            permutations=permutations,
        )


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
    expected, received = list(reference[0]), list(candidate[0])
    if expected != received:  # (1)
        swapped = sorted(expected) == sorted(received)
        words = "in another order" if swapped else "under other names"
        return Proof(
            samples,
            failures=(f"the outputs come {words}: expected {expected}, received {received}",),
        )
    usable, failures, notes = _usable(reference)
    if failures:
        return Proof(samples, failures=failures)
    proofs, permutations = [], {}
    for port in ends.outputs:
        column = [candidate[index][port.name] for index in range(len(candidate))]
        wanted = [reference[index][port.name] for index in usable]
        if layouts and port.name in layouts:
            port, column = _settle(wanted[0], column, usable[0], port, layouts[port.name])
            permutations[port.name] = port.permutation
        proofs.append(_prove_output(port.name, wanted, column, usable, tolerance))
    return Proof(samples, tuple(proofs), notes=notes, permutations=permutations)


def _usable(reference: Sequence[Tensors]) -> tuple[list[int], tuple[str, ...], tuple[str, ...]]:
    """The samples on which the reference says something, and what is wrong with the reference."""
    for name, first in reference[0].items():
        if not _same(first, reference[-1][name]):  # (6)
            return [], (
                f"the model itself is random: output {name!r} differs when the same sample"
                " is run twice (a layer left in training mode?)",
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
    wanted: NDArray[Any],
    column: list[NDArray[Any]],
    index: int,
    port: Port,
    candidates: Sequence[tuple[int, ...] | None],
) -> tuple[Port, list[NDArray[Any]]]:
    """Find the layout that the tool gave an output, by its values."""
    in_file = [to_file_layout(array, port) for array in column]
    best: tuple[float, Port] | None = None
    for permutation in candidates:
        guess = replace(port, permutation=permutation)
        shown = to_given_layout(in_file[index], guess)
        if shown.shape == wanted.shape:
            score = sqnr_db(wanted, shown)
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
    received = [column[index] for index in usable]
    shape_failure = _check_kind(wanted[0], received[0])  # (2)
    if shape_failure:
        return OutputProof(name, 0.0, math.inf, None, (shape_failure,))
    failures: list[str] = []
    if not all(_same_specials(a, b) for a, b in zip(wanted, received, strict=True)):  # (3)
        failures.append("NaN or infinity where the model gives numbers")
    if not _same(column[0], column[-1]):  # (6)
        failures.append("it differs when the same sample is run twice: something random was left")
    pairs = list(zip(wanted, received, strict=True))
    worst_db = min(sqnr_db(a, b) for a, b in pairs)
    worst_error = max(relative_error(a, b) for a, b in pairs)
    agreement = _argmax_agreement(pairs)
    if worst_db < tolerance.sqnr_db:  # (4)
        failures.append(f"{worst_db:.1f} dB, expected at least {tolerance.sqnr_db:g} dB")
    if worst_error > tolerance.relative_error:
        failures.append(
            f"an error of {worst_error:.2g} of its range, expected {tolerance.relative_error:g}"
        )
    if agreement is not None and agreement < tolerance.argmax_agreement:  # (5)
        failures.append(f"the same largest element in only {agreement:.0%}")
    return OutputProof(name, worst_db, worst_error, agreement, tuple(failures))


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
    return first.shape == again.shape and (
        sqnr_db(first, again) > 80 if _is_finite(first) else _same_specials(first, again)
    )


def _is_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _same_specials(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a.dtype.kind != "f":
        return True
    return bool(np.array_equal(np.isnan(a), np.isnan(b))) and bool(
        np.array_equal(np.isinf(a), np.isinf(b))
    )


def sqnr_db(wanted: NDArray[Any], received: NDArray[Any]) -> float:
    """10 log10 of signal over noise; both without NaN and infinity, which are counted elsewhere."""
    a, b = wanted.astype(np.float64).ravel(), received.astype(np.float64).ravel()
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    noise = float(np.sum(np.square(a - b)))
    signal = float(np.sum(np.square(a)))
    if noise == 0:
        return PERFECT_DB
    if signal == 0:
        return -PERFECT_DB
    return min(PERFECT_DB, 10 * math.log10(signal / noise))


def relative_error(wanted: NDArray[Any], received: NDArray[Any]) -> float:
    """The largest error, as a share of the largest magnitude that the model gives."""
    a, b = wanted.astype(np.float64).ravel(), received.astype(np.float64).ravel()
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.any():
        return 0.0
    error = float(np.max(np.abs(a[finite] - b[finite])))
    if error == 0:
        return 0.0
    largest = float(np.max(np.abs(a[finite])))
    return error / largest if largest else math.inf


def _argmax_agreement(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float | None:
    """The share of rows with the same largest element, of those where it is a clear one."""
    same = total = 0
    for wanted, received in pairs:
        if wanted.ndim < 2 or wanted.shape[-1] < 2 or wanted.dtype.kind != "f":
            return None
        rows = wanted.reshape(-1, wanted.shape[-1])
        others = received.reshape(-1, wanted.shape[-1])
        top = np.partition(rows, -2, axis=-1)[:, -2:]
        clear = (top[:, 1] - top[:, 0]) > 1e-3 * max(float(np.max(np.abs(rows))), 1e-30)
        total += int(clear.sum())
        same += int((rows.argmax(-1) == others.argmax(-1))[clear].sum())
    return same / total if total else None
