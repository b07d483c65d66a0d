"""Resized images against TensorFlow's own, and against what a mean must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgepipe.data.resampling import resized

if TYPE_CHECKING:
    from conftest import Build
    from numpy.typing import NDArray

SIZES = [(15, 20), (40, 90), (33, 10)]

TENSORFLOW = f"""
import numpy as np, tensorflow as tf
image = np.random.default_rng(0).integers(0, 256, (33, 50, 3), np.uint8)
made = {{"image": image}}
for height, width in {SIZES}:
    for method in ("area", "bilinear", "bicubic", "nearest"):
        found = tf.image.resize(image, (height, width), method=method).numpy()
        made[f"{{method}} {{height}} {{width}}"] = found
np.savez("resized.npz", **made)
"""


@pytest.fixture(scope="module")
def tensorflow(build: Build) -> dict[str, NDArray[Any]]:
    with np.load(build("keras", TENSORFLOW) / "resized.npz") as file:
        return dict(file)


@pytest.mark.toolchain("keras")
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("method", ["area", "bilinear", "bicubic"])
def test_pixels_are_those_of_tensorflow(
    tensorflow: dict[str, NDArray[Any]], method: str, height: int, width: int
) -> None:
    expected = np.clip(tensorflow[f"{method} {height} {width}"], 0, 255)
    found = resized(tensorflow["image"], height, width, method)
    assert np.abs(found - expected).max() <= 1


def test_area_counts_a_pixel_by_the_part_that_is_inside() -> None:
    row = np.array([[[30], [60], [90]]], np.uint8)
    assert resized(row, 1, 2, "area").ravel().tolist() == [40, 80]


@pytest.mark.parametrize("method", ["area", "bilinear", "bicubic"])
def test_one_colour_stays_that_colour(method: str) -> None:
    flat = np.full((7, 9, 3), 200, np.uint8)
    for size in ((3, 4), (20, 30), (7, 9)):
        assert (resized(flat, *size, method) == 200).all()
