"""Resizing that Pillow has no exact form of: by area, and by the nearest pixels alone.

Pillow always widens its filters when it shrinks an image, its BOX gives a pixel that lies half
in a window all or nothing, and its affine map cuts fractions off. TensorFlow and OpenCV do not.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEYS = -0.5
"""The slope of the cubic, in TensorFlow and Pillow; OpenCV and PyTorch take -0.75."""


def resized(pixels: NDArray[Any], height: int, width: int, method: str) -> NDArray[Any]:
    """Bytes of height x width x channels, by `area`, `bilinear` or `bicubic`; axis by axis."""
    import numpy as np

    values: NDArray[Any] = pixels  # Whole as bytes: a photograph as floats is 150 MB.
    for axis, size in ((0, height), (1, width)):
        if values.shape[axis] != size:
            values = (
                _area(values, axis, size) if method == "area" else _near(values, axis, size, method)
            )
    made: NDArray[Any] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return made


def _area(values: NDArray[Any], axis: int, size: int) -> NDArray[Any]:
    """The mean over each window, what lies partly in it by its part."""
    import numpy as np

    lines = np.moveaxis(values, axis, 0)
    edges = np.linspace(0, len(lines), size + 1)
    means = []
    for low, high in pairwise(edges):
        first, last = int(low), min(int(np.ceil(high)), len(lines))
        weights = np.ones(last - first, np.float32)
        weights[0] -= low - first
        weights[-1] -= last - high
        means.append(
            np.tensordot(weights / weights.sum(), lines[first:last].astype(np.float32), axes=(0, 0))
        )
    return np.moveaxis(np.stack(means), 0, axis)


def _near(values: NDArray[Any], axis: int, size: int, method: str) -> NDArray[Any]:
    """From the two or four nearest pixels, centre on centre; the border repeats its last pixel."""
    import numpy as np

    length = values.shape[axis]
    at = (np.arange(size) + 0.5) * (length / size) - 0.5
    first = np.floor(at).astype(np.int64)
    part = at - first
    taps = {0: 1 - part, 1: part} if method == "bilinear" else _cubic(part)
    weights = dict(taps)
    if method == "bicubic":  # TensorFlow leaves out what lies beyond the border.
        weights = {
            tap: np.where((first + tap >= 0) & (first + tap < length), weight, 0)
            for tap, weight in taps.items()
        }
        total = sum(weights.values())
        weights = {tap: weight / total for tap, weight in weights.items()}
    made = np.zeros(1)
    for tap, weight in weights.items():
        places = np.clip(first + tap, 0, length - 1)
        made = made + values.take(places, axis) * _along(weight, axis, values.ndim)
    return made.astype(np.float32)


def _cubic(part: NDArray[Any]) -> dict[int, NDArray[Any]]:
    """Keys' weights for the pixels before, at, after, and after that."""
    near = {0: part, 1: 1 - part}
    far = {-1: part + 1, 2: 2 - part}
    inner = {tap: ((KEYS + 2) * x - (KEYS + 3)) * x * x + 1 for tap, x in near.items()}
    outer = {tap: KEYS * (((x - 5) * x + 8) * x - 4) for tap, x in far.items()}
    return {**inner, **outer}


def _along(numbers: NDArray[Any], axis: int, dimensions: int) -> NDArray[Any]:
    shape = [1] * dimensions
    shape[axis] = -1
    return numbers.reshape(shape)
