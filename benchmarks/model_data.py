"""Signals and pictures that real models are calibrated and judged on: made, but of their kind.

White noise drives a trained network where its own data never does, so its int8 would be judged
on nothing. Each function takes a seed: calibrated is on one, judged on another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]


def pictures(count: int, size: int, seed: int) -> Array:
    """Discs, boxes and stripes on a slope of colour, from 0 to 1, channels last."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    made = []
    for _ in range(count):
        slope = random.normal(0, 0.5, (2, 3))
        picture = random.uniform(0.2, 0.8, 3) + y[..., None] * slope[0] + x[..., None] * slope[1]
        for _ in range(int(random.integers(6, 30))):
            (top, left), width = random.uniform(0, 1, 2), random.uniform(0.02, 0.4)
            kind = random.integers(3)
            if kind == 0:
                inside = (y - top) ** 2 + (x - left) ** 2 < width**2
            elif kind == 1:
                inside = (abs(y - top) < width) & (abs(x - left) < random.uniform(0.02, 0.4))
            else:
                angle = random.uniform(0, np.pi)
                inside = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 6 / width) > 0.6
                inside &= (y - top) ** 2 + (x - left) ** 2 < 0.1
            share = random.uniform(0.4, 1)
            picture[inside] = (1 - share) * picture[inside] + share * random.uniform(0, 1, 3)
        made.append(picture + random.normal(0, 0.02, picture.shape))
    return _float(np.stack(made).clip(0, 1))


def tunes(count: int, length: int, rate: int, seed: int) -> Array:
    """Notes that begin and fade, each with its overtones, over a little noise."""
    random = np.random.default_rng(seed)
    times = np.arange(length) / rate
    made = random.normal(0, 0.003, (count, length))
    for wave in made:
        for _ in range(int(random.integers(2, 7))):
            pitch, start = 65.4 * 2 ** random.uniform(0, 4.5), random.uniform(0, times[-1] * 0.8)
            since = np.maximum(times - start, 0)
            loud = (
                (times > start) * np.exp(-since * random.uniform(1, 6)) * random.uniform(0.05, 0.3)
            )
            for overtone in range(1, 6):
                wave += loud * np.sin(2 * np.pi * pitch * overtone * since) / overtone**1.3
    return _float(made)


def speech(count: int, length: int, rate: int, seed: int) -> Array:
    """A buzz with the formants of a vowel, hiss, or near silence, as speech changes between."""
    random = np.random.default_rng(seed)
    times = np.arange(length) / rate
    made = []
    for number in range(count):
        kind = number % 3
        hiss = random.normal(0, 0.02 if kind == 1 else 0.002, length)
        if kind == 2:
            pitch = random.uniform(80, 260)
            formants = random.uniform((250, 800, 2000), (850, 2300, 3000))
            for overtone in range(1, int(3500 / pitch)):
                height = sum(np.exp(-(((pitch * overtone - f) / 150) ** 2)) for f in formants)
                phase = random.uniform(0, 2 * np.pi)
                hiss += 0.1 * height * np.sin(2 * np.pi * pitch * overtone * times + phase)
        made.append(hiss * random.uniform(0.3, 2))
    return _float(np.array(made))


def smooth(count: int, shape: tuple[int, int], seed: int) -> Array:
    """Fields of few waves, from -1 to 1."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    made = []
    for _ in range(count):
        waves = random.normal(0, 1, (6, 2)) * 1.5, random.uniform(0, 2 * np.pi, 6)
        field = sum(
            np.sin(2 * np.pi * (a * x + b * y) + c) for (a, b), c in zip(*waves, strict=True)
        )
        made.append(field / np.abs(field).max())
    return _float(np.array(made))


def _float(array: NDArray[np.floating]) -> Array:
    found: Array = array.astype(np.float32)
    return found
