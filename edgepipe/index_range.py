"""How large the numbers may be that an input takes: asked of the model itself, by running it.

Frameworks bound an input that picks rows of a table, but not where a file says so. A model that
takes every number is fed several ranges by `samples`; one that refuses some is fed all that it
takes. Runs in a worker.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from edgepipe import catalog
from edgepipe.artifact import Artifact, Port
from edgepipe.samples import ASKED

if TYPE_CHECKING:
    from edgepipe.runner import Runner, Tensors

RUNGS = (1, 10, 100, 1_000, 10_000, 100_000, ASKED)
PATIENCE_SECONDS = 60.0
"""For one input; what was accepted until then is its range."""


def probe(
    artifact: dict[str, Any], names: list[str], feeds: str, most: int
) -> dict[str, dict[str, Any]]:
    """Of each input the first number that the model refuses, or None, and whether it did refuse."""
    from pathlib import Path

    from edgepipe import tensors

    subject = Artifact.from_json(artifact)
    sample = next(iter(tensors.read(Path(feeds))))
    wide = {port.name: port for port in subject.ends().inputs if port.name in names}
    for port in subject.ends().inputs:
        if port.unbounded:
            sample[port.name] = sample[port.name] * 0
    with catalog.runner(subject.format)(subject) as runner:
        found = {name: _range(runner, sample, port, most) for name, port in wide.items()}
        return _together(runner, sample, found)


def _range(runner: Runner, sample: Tensors, port: Port, most: int) -> dict[str, Any]:
    import numpy as np

    limits = np.iinfo(port.dtype)
    largest = min(int(limits.max), most)
    deadline = time.monotonic() + PATIENCE_SECONDS
    taken = 0
    for rung in sorted({min(rung, largest) for rung in RUNGS}):
        if time.monotonic() > deadline:
            return {"high": taken + 1, "refuses": False}
        if not _takes(runner, sample, port, rung):
            first = _bisect(runner, sample, port, (taken, rung), deadline)
            return {"high": first, "refuses": time.monotonic() < deadline}
        taken = rung
    if most < ASKED:
        return {"high": most + 1, "refuses": False}
    # A table behind a clamp or a shift takes large numbers and none below zero.
    below = (max(-rung, int(limits.min)) for rung in (1, 100, ASKED))
    if all(_takes(runner, sample, port, number) for number in below):
        return {"high": None, "refuses": False}
    return {"high": ASKED + 1, "refuses": False}


def _together(
    runner: Runner, sample: Tensors, found: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Smaller ranges where the model takes each of the numbers but not their sum."""
    if len(found) < 2:
        return found
    lowest = {name: 0 if item["high"] else -ASKED for name, item in found.items()}
    if not _takes_all(runner, sample, lowest):
        found = {name: {**item, "high": item["high"] or ASKED + 1} for name, item in found.items()}
    tops = {name: (item["high"] or ASKED + 1) - 1 for name, item in found.items()}
    if _takes_all(runner, sample, tops):
        return found
    while any(tops.values()):
        tops = {name: top // 2 for name, top in tops.items()}
        if _takes_all(runner, sample, tops):
            break
    return {name: {**item, "high": tops[name] + 1} for name, item in found.items()}


def _bisect(
    runner: Runner, sample: Tensors, port: Port, between: tuple[int, int], deadline: float
) -> int:
    taken, refused = between
    while refused - taken > 1 and time.monotonic() < deadline:
        middle = (taken + refused) // 2
        if _takes(runner, sample, port, middle):
            taken = middle
        else:
            refused = middle
    return taken + 1


def _takes(runner: Runner, sample: Tensors, port: Port, number: int) -> bool:
    return _takes_all(runner, sample, {port.name: number})


def _takes_all(runner: Runner, sample: Tensors, numbers: dict[str, int]) -> bool:
    import numpy as np

    arrays = {}
    for name, number in numbers.items():
        limits = np.iinfo(sample[name].dtype)
        held = max(int(limits.min), min(int(limits.max), number))
        arrays[name] = np.full_like(sample[name], held)
    try:
        runner.infer({**sample, **arrays})
    except Exception:  # Each framework has its own for an index beyond the table.
        return False
    return True
