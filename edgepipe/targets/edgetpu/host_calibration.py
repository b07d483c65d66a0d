"""`edgepipe calibrate-host`: a host's profile from a few latencies that a user measured."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepipe.errors import ModelNotFound, OptionError
from edgepipe.targets.edgetpu import estimating, host_profile
from edgepipe.targets.edgetpu.host_profile import FIGURES, HostProfile

LEAST_ERROR = 0.1
"""However well a profile fits what it was made of."""
STREAMING = 0.5
"""MiB; below it nothing of streaming can be learnt from a model."""


def calibrate_host(measured: Mapping[str | Path, float], base: str = "usb3") -> HostProfile:
    """`measured` has milliseconds of int8 models. With few of them the base's figures are scaled.

    One: all by the same factor. From two on: the fixed time and the rest apart; where some
    stream, and three or more are given, streaming apart as well. Each factor is from 0.1 to 10.
    """
    known = host_profile.load(base)
    if not measured or not all(0 < one < np.inf for one in measured.values()):
        raise OptionError("latencies in milliseconds above 0 were expected")
    found = [estimating.estimate(path, host=base).models[0] for path in measured]
    times = np.array(list(measured.values()))
    fixed = np.full(len(found), known.fixed_ms)
    streamed = np.array([one.streamed * known.ms_per_streamed_mib for one in found])
    rest = np.array([one.milliseconds for one in found]) - fixed - streamed
    streams = bool((np.array([one.streamed for one in found]) > STREAMING).any())
    if len(found) >= 3 and streams:
        parts = np.stack([fixed, rest, streamed], 1)
        groups: list[tuple[int, ...]] = [(0,), (1,), (2,)]
    elif len(found) >= 2:
        parts = np.stack([fixed, rest + streamed], 1)
        groups = [(0,), (1, 2)]
    else:
        parts = np.stack([fixed + rest + streamed], 1)
        groups = [(0, 1, 2)]
    factors = _factors(parts / times[:, None])
    by_part = {part: factors[place] for place, group in enumerate(groups) for part in group}
    off = float(np.abs(parts @ factors / times - 1).max())
    source = f"{base} scaled to {len(found)} measured latencies"
    scaled = {name: getattr(known, name) * by_part[_part(name)] for name in FIGURES}
    error = max(LEAST_ERROR, off, known.error / len(found))
    return replace(
        known, **scaled, words=f"measured, from {base}", error=error,
        sources=dict.fromkeys(FIGURES, source),
    )  # fmt: skip


def _part(figure: str) -> int:
    return {"fixed_ms": 0, "ms_per_streamed_mib": 2, "ms_per_end_mib": 2}.get(figure, 1)


def _factors(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of relative errors by steps that stay within the bounds."""
    factors = np.ones(shares.shape[1])
    step = 1 / max(1e-9, float(np.linalg.norm(shares, 2)) ** 2)
    for _ in range(20_000):
        factors = np.clip(factors - step * shares.T @ (shares @ factors - 1), 0.1, 10)
    return factors


def read(path: Path) -> dict[str | Path, float]:
    """Lines of `model.tflite,milliseconds`; paths are taken from the file's folder."""
    if not path.is_file():
        raise ModelNotFound(f"no file {str(path)!r}", hint="lines of model.tflite,milliseconds")
    found: dict[str | Path, float] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row or row[0].startswith("#"):
                continue
            try:
                found[path.parent / row[0].strip()] = float(row[1])
            except (IndexError, ValueError) as error:
                raise OptionError(
                    f"{path}, line {number}: model.tflite,milliseconds was expected,"
                    f" received {','.join(row)!r}"
                ) from error
    return found
