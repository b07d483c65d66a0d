"""What was fed as a small PNG in a data URI: an image, or the course of a signal."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.artifact import Port
from edgepipe.data import fitting
from edgepipe.data.preprocessing import Steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST, LARGEST = 64, 128
"""Pixels of the longer side."""
PLOT_WIDTH, PLOT_HEIGHT = 240, 72
SHORTEST = 16
"""Numbers that make a signal; fewer are a row of features."""
DARKEST = 17
"""Numbers that nothing scaled and that stay below are no pixels of 0 to 255: 16 shades, 0 to 1."""
MOST_LINES = 8
COLOURS = ((66, 133, 214), (214, 120, 50), (70, 160, 90), (170, 80, 170))
"""Told apart on white and on black."""


def of(array: NDArray[Any], port: Port, steps: Steps) -> str:
    """'' for what is neither."""
    image = _image(array, port, steps)
    if image is not None:
        return _uri(_resized(image))
    lines = _lines(array)
    return "" if lines is None else _uri(_plot(lines))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A file of height x width x 1, 3 or 4 bytes (w3.org/TR/png: chunks, filter 0 a row)."""
    height, width, channels = pixels.shape
    kind = {1: 0, 3: 2, 4: 6}[channels]
    rows = np.concatenate(
        [np.zeros((height, 1), np.uint8), pixels.reshape(height, width * channels)], axis=1
    )
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, body)
        for name, body in (
            (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""),
        )
    )  # fmt: skip


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _uri(pixels: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def _image(array: NDArray[Any], port: Port, steps: Steps) -> NDArray[np.uint8] | None:
    """Height x width x 1 or 3 bytes, with the preprocessing undone."""
    found = array[0] if array.ndim == 4 and array.shape[0] == 1 else array
    if array.ndim == 3 and array.shape[0] == 1 and array.shape[-1] not in (1, 3):
        found = array[0][:, :, None]  # 1xHxW: one grey image
    if found.ndim != 3:
        return None
    if array.ndim == 4 and fitting.channels_first(port, steps):
        found = found.transpose(1, 2, 0)
    if found.shape[2] not in (1, 3) or min(found.shape[:2]) < 2:
        return None
    values = found.astype(np.float64)
    if steps.std:
        values = values * np.array(steps.std)
    if steps.mean:
        values = values + np.array(steps.mean)
    values = values / (steps.scale or 1.0)
    if steps.channels == "BGR":
        values = values[:, :, ::-1]
    return _bytes(values, steps.changes_values)


def _bytes(values: NDArray[np.float64], scaled: bool) -> NDArray[np.uint8]:
    """Pixels stay what they are; of other numbers the smallest is black and the largest white."""
    values = np.nan_to_num(values)
    low, high = float(values.min()), float(values.max())
    if low < -1 or high > 256 or (high < DARKEST and not scaled):
        values = (values - low) * (255 / (high - low or 1.0))
    made: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return made


def _resized(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """By whole factors: means of squares where it is large, squares where it is small."""
    side = max(pixels.shape[:2])
    if side > LARGEST:
        step = -(-side // LARGEST)
        height, width = (size // step * step for size in pixels.shape[:2])
        if not height or not width:
            return pixels[::step, ::step]
        cut = pixels[:height, :width].reshape(height // step, step, width // step, step, -1)
        made: NDArray[np.uint8] = cut.mean(axis=(1, 3)).astype(np.uint8)
        return made
    if side < SMALLEST:
        times = SMALLEST // side
        return pixels.repeat(times, axis=0).repeat(times, axis=1)
    return pixels


def _lines(array: NDArray[Any]) -> NDArray[np.float64] | None:
    """One row a channel; the longest axis is time."""
    found = array.reshape([size for size in array.shape if size != 1] or [1])
    if found.ndim == 1:
        found = found[None]
    if found.ndim != 2:
        return None
    if found.shape[0] > found.shape[1]:
        found = found.T
    if found.shape[1] < SHORTEST or found.shape[0] > MOST_LINES:
        return None
    return np.nan_to_num(found.astype(np.float64))


def _plot(lines: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Each channel as a curve on nothing, so that it stands on any background."""
    pixels = np.zeros((PLOT_HEIGHT, PLOT_WIDTH, 4), np.uint8)
    low, high = float(lines.min()), float(lines.max())
    scale = (PLOT_HEIGHT - 1) / (high - low or 1.0)
    count = lines.shape[1]
    edges = np.linspace(0, count - 1, PLOT_WIDTH + 1)
    for number, line in enumerate(lines):
        colour = (*COLOURS[number % len(COLOURS)], 255)
        course = np.interp(edges, np.arange(count), line)
        for column in range(PLOT_WIDTH):
            first, last = int(np.ceil(edges[column])), int(edges[column + 1]) + 1
            span = [*course[column : column + 2], *line[first:last]]
            bottom, top = (round((value - low) * scale) for value in (min(span), max(span)))
            pixels[PLOT_HEIGHT - 1 - top : PLOT_HEIGHT - bottom, column] = colour
    return pixels
