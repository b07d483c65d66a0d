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

if TYPE_CHECKING:
    from edgepipe.runner import Runner, Tensors

RUNGS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
PATIENCE_SECONDS = 60.0
"""For one input; what was accepted until then is its range."""


def probe(artifact: dict[str, Any], names: list[str], feeds: str) -> dict[str, int | None]:
    """Input -> the first number that the model refuses, None where it took them all."""
    from pathlib import Path

    from edgepipe import tensors

    subject = Artifact.from_json(artifact)
    sample = next(iter(tensors.read(Path(feeds))))
    wide = {port.name: port for port in subject.ends().inputs if port.name in names}
    for port in wide.values():
        sample[port.name] = sample[port.name] * 0
    with catalog.runner(subject.format)(subject) as runner:
        return {name: _first_refused(runner, sample, port) for name, port in wide.items()}


def _first_refused(runner: Runner, sample: Tensors, port: Port) -> int | None:
    import numpy as np

    largest = int(np.iinfo(port.dtype).max)
    deadline = time.monotonic() + PATIENCE_SECONDS
    taken = 0
    for rung in (min(rung, largest) for rung in RUNGS):
        if time.monotonic() > deadline:
            return taken + 1
        if not _takes(runner, sample, port, rung):
            return _bisect(runner, sample, port, (taken, rung), deadline)
        taken = rung
    return None


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
    import numpy as np

    array = np.full_like(sample[port.name], number)
    try:
        runner.infer({**sample, port.name: array})
    except Exception:  # Each framework has its own for an index beyond the table.
        return False
    return True
