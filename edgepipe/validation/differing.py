"""How far two outputs of one sample lie apart, and which class each of them says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOISE, SIGNAL, SAID, WANTED, TRUE = range(5)
"""Columns of a row: two energies, three classes; a class of -1 is none."""


def difference(
    output: NDArray[Any], reference: NDArray[Any] | None, label: int | None
) -> NDArray[np.float64]:
    """One row; NaN where there is no reference."""
    said = class_of(output)
    true = -1 if label is None else label
    if reference is None:
        return np.array([np.nan, np.nan, said, -1, true])
    a, b = reference.astype(np.float64).ravel(), output.astype(np.float64).ravel()
    with np.errstate(invalid="ignore"):
        apart = np.where(a == b, 0.0, a - b)  # Infinity on both sides is the same.
    apart = np.nan_to_num(apart, nan=1e30, posinf=1e30, neginf=-1e30)
    a = np.nan_to_num(a, posinf=1e30, neginf=-1e30)
    noise, signal = float(np.dot(apart, apart)), float(np.dot(a, a))
    return np.array([noise, signal, said, class_of(reference), true])


def class_of(output: NDArray[Any]) -> int:
    """Of one row of scores the place of the largest, of one whole number itself; else -1."""
    if output.size == 1 and output.dtype.kind in "iu":
        return int(output.reshape(-1)[0])
    if is_row_of_scores(output.shape, output.dtype.name) and np.isfinite(output).all():
        return int(output.argmax())
    return -1


def is_row_of_scores(shape: tuple[int | None, ...] | None, dtype: str) -> bool:
    """A float output with a batch of one and one axis of classes, perhaps with axes of 1."""
    if shape is None or None in shape or not dtype.startswith("float"):
        return False
    return len([size for size in shape if size != 1]) == 1 and len(shape) >= 2
