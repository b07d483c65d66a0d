"""A quantized model beside the float one it came from, sample by sample, memory flat.

Integers lose something on every value, so what counts is how much, over all held-out samples
together: signal to noise, the angle between the outputs, the same largest element, and, where
there are labels, how many each of the two gets right on the very same samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.artifact import Signature
from edgepipe.proof import PERFECT_DB, OutputProof, Proof, Tolerance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

INTEGERS_AGREE = 0.9
"""Of outputs that are integers in the float model too, such as classes."""
STEPS = 8
"""An index of an output with fewer steps of the common scale than this is hardly told apart."""
LEVELS = 255
_PROBABILITY_STEPS = {"int8": 1 / 256, "uint8": 1 / 256, "int16": 1 / 32768}
"""LiteRT's softmax and sigmoid have these scales, whatever their values are (activations.cc)."""
WIDEST = 256
"""Axes with more indices are places, not kinds of values."""


@dataclass
class _Column:
    """What is summed up of one output."""

    name: str
    step: float = 0.0
    signal: float = 0.0
    least_noise: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    other: float = 0.0
    worst_error: float = 0.0
    largest: float = 0.0
    rows: int = 0
    same_rows: int = 0
    finite: bool = True
    integer: bool = False
    sums: list[float] = field(default_factory=lambda: [math.inf, -math.inf])
    probabilities: bool = True
    ranges: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, wanted: NDArray[Any], received: NDArray[Any]) -> None:
        if wanted.shape != received.shape:
            self.failures = [f"shape {list(received.shape)}, expected {list(wanted.shape)}"]
            return
        self.integer = wanted.dtype.kind != "f"
        a, b = wanted.astype(np.float64), received.astype(np.float64)
        usable = np.isfinite(a)
        self.finite &= bool(np.isfinite(b[usable]).all())
        a, b = np.where(usable, a, 0.0), np.where(usable & np.isfinite(b), b, 0.0)
        self.signal += float(np.sum(a * a))
        self.noise += float(np.sum(np.square(a - b)))
        self.product += float(np.sum(a * b))
        self.other += float(np.sum(b * b))
        self.worst_error = max(self.worst_error, float(np.max(np.abs(a - b), initial=0.0)))
        self.largest = max(self.largest, float(np.max(np.abs(a), initial=0.0)))
        self._count_rows(a, b)
        self._widen(a)

    def _count_rows(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
        if self.integer:
            self.rows += a.size
            self.same_rows += int((a == b).sum())
        elif a.ndim and a.shape[-1] >= 2 and a.size:
            rows, others = a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1])
            self.rows += len(rows)
            self.same_rows += int((rows.argmax(-1) == others.argmax(-1)).sum())
            total = rows.sum(-1)
            self.probabilities &= bool((rows >= 0).all() and np.abs(total - 1).max() < 1e-3)
            if self.probabilities:
                exact = np.rint(a / self.step) * self.step if self.step else a
                self.least_noise += float(np.sum(np.square(a - exact)))
                given = others.sum(-1)
                self.sums = [min(self.sums[0], given.min()), max(self.sums[1], given.max())]

    def _widen(self, a: NDArray[np.float64]) -> None:
        """Each index's largest magnitude, along the axes that may hold kinds of values."""
        for axis, size in enumerate(a.shape):
            if axis and 2 <= size <= WIDEST:
                others = tuple(other for other in range(a.ndim) if other != axis)
                now = np.abs(a).max(axis=others, initial=0.0)
                before = self.ranges.get(axis)
                self.ranges[axis] = now if before is None else np.maximum(before, now)

    def proof(self, tolerance: Tolerance) -> OutputProof:
        db = _db(self.signal, self.noise)
        failures = list(self.failures)
        agreement = self.same_rows / self.rows if self.rows else None
        if not self.finite:
            failures.append("NaN or infinity where the float model gives numbers")
        if self.integer:
            if agreement is not None and agreement < INTEGERS_AGREE:
                failures.append(f"the same integer in only {agreement:.1%} of all places")
        elif db < tolerance.sqnr_db:
            why = self._too_small(tolerance)
            failures.append(f"{db:.1f} dB, expected at least {tolerance.sqnr_db:g} dB{why}")
        if agreement is not None and agreement < tolerance.argmax_agreement:
            failures.append(
                f"the same largest element in only {agreement:.1%} of all rows,"
                f" expected {tolerance.argmax_agreement:.1%}"
            )
        error = self.worst_error / self.largest if self.largest else None
        length = math.sqrt(self.signal * self.other)
        cosine = self.product / length if length else None
        return OutputProof(self.name, db, error, agreement, tuple(failures), cosine)

    def _too_small(self, tolerance: Tolerance) -> str:
        """Where not even an exact result could be better: a softmax has a fixed step in int8."""
        best = _db(self.signal, self.least_noise)
        if not self.probabilities or not self.step or best >= tolerance.sqnr_db:
            return ""
        return (
            f"; its probabilities are so small that exact ones would have {best:.1f} dB in steps of"
            f" {self.step:g}: judge it on real samples, or leave the softmax in float (--io float32"
            " -O tflite_quantize.float_layers=PATTERN)"
        )

    def notes(self) -> list[str]:
        """Invariants of the float output that the integers can't keep, or did not."""
        found = []
        if self.rows and self.probabilities and not (self.sums[0] > 0.5 and self.sums[1] < 1.5):
            found.append(
                f"output {self.name!r} sums to 1 in the float model, and to between"
                f" {self.sums[0]:.3g} and {self.sums[1]:.3g} now"
            )
        for axis, ranges in self.ranges.items():
            small = (ranges > 0) & (ranges < STEPS * ranges.max() / LEVELS)
            if small.any():
                index = int(np.argmax(small))
                found.append(
                    f"output {self.name!r} has one scale for unlike values: index {index} of axis"
                    f" {axis} ranges to {ranges[index]:.3g}, the largest to {ranges.max():.3g}"
                    f" ({int(small.sum())} of {len(ranges)} such); outputs of their own would keep"
                    " them apart"
                )
                break
        return found


def compare(
    reference: Iterable[Tensors],
    candidate: Iterable[Tensors],
    ends: Signature,
    tolerance: Tolerance,
    labels: Sequence[int] = (),
) -> Proof:
    """Judge the candidate over all samples; in both the last sample is the first one again."""
    columns = {
        port.name: _Column(port.name, _PROBABILITY_STEPS.get(port.dtype, 0.0))
        for port in ends.outputs
    }
    score = _Score()
    first: Tensors | None = None
    last: Tensors = {}
    count = -1
    held: tuple[Tensors, Tensors] | None = None
    for wanted, received in zip(reference, candidate, strict=True):
        if list(wanted) != list(columns) or list(received) != list(columns):
            return Proof(0, failures=(
                f"the outputs are {list(received)}, expected {list(wanted)}",
            ))  # fmt: skip
        if held is not None:  # One behind: the last is there to see whether it repeats.
            for name, column in columns.items():
                column.add(held[0][name], held[1][name])
            score.add(held[0], held[1], labels[count] if count < len(labels) else -1)
        first = received if first is None else first
        held, last, count = (wanted, received), received, count + 1
    if count < 1 or first is None:
        return Proof(0, failures=("there is nothing to compare: no samples or no outputs",))
    failures = () if _repeats(first, last) else ("it gives something else when run again",)
    proofs = tuple(column.proof(tolerance) for column in columns.values())
    notes = tuple(note for column in columns.values() for note in column.notes())
    return Proof(count, proofs, failures, notes, quantized=True, accuracy=score.to_json())


@dataclass
class _Score:
    """Right answers of both models on the same labelled samples, by the first output."""

    samples: int = 0
    reference: int = 0
    candidate: int = 0
    both: int = 0

    def add(self, wanted: Tensors, received: Tensors, label: int) -> None:
        ours, theirs = _answer(wanted), _answer(received)
        if label < 0 or ours is None or theirs is None:
            return
        self.samples += 1
        self.reference += ours == label
        self.candidate += theirs == label
        self.both += ours == label == theirs

    def to_json(self) -> dict[str, Any] | None:
        if not self.samples:
            return None
        return {
            "samples": self.samples,
            "float": self.reference / self.samples,
            "quantized": self.candidate / self.samples,
            "only_float_right": self.reference - self.both,
            "only_quantized_right": self.candidate - self.both,
        }


def _answer(outputs: Tensors) -> int | None:
    """The class that the first output names: its largest element, or the one integer it is."""
    array = next(iter(outputs.values()))
    if array.dtype.kind in "iu" and array.size == 1:
        return int(array.reshape(()))
    if array.dtype.kind == "f" and array.ndim and array.shape[-1] == array.size >= 2:
        return int(array.reshape(-1).argmax())
    return None


def _repeats(first: Tensors, again: Tensors) -> bool:
    return all(np.array_equal(first[name], again[name], equal_nan=True) for name in first)


def _db(signal: float, noise: float) -> float:
    if noise == 0:
        return PERFECT_DB
    if signal == 0 or not math.isfinite(noise):
        return -PERFECT_DB
    return max(-PERFECT_DB, min(PERFECT_DB, 10 * math.log10(signal / noise)))
