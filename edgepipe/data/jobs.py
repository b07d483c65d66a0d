"""What a worker does with data where the core can't: write samples to a file, look at them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from edgepipe import tensors
from edgepipe.artifact import Signature
from edgepipe.data.survey import survey
from edgepipe.dataset import DataSource


def write_samples(
    source: dict[str, Any], signature: dict[str, Any], path: str, most: int | None = None
) -> int:
    """Samples into one file, as `tensors.read` reads it: all, or the first ones."""
    dataset = DataSource.from_json(source).open(Signature.from_json(signature))
    samples = [sample.feeds for sample in itertools.islice(dataset, most)]
    tensors.write(Path(path), samples)
    return len(samples)


def look(source: dict[str, Any], signature: dict[str, Any]) -> dict[str, Any]:
    return survey(DataSource.from_json(source), Signature.from_json(signature)).to_json()


def prints(source: dict[str, Any], signature: dict[str, Any]) -> list[list[str]]:
    """Name and digest of every sample."""
    dataset = DataSource.from_json(source).open(Signature.from_json(signature))
    return [list(pair) for pair in dataset.prints()]
