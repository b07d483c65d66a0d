"""What a run learns from and what it is judged on: two parts of the calibration data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Artifact, Signature
from edgepipe.dataset import Dataset, DataSource, Sample

if TYPE_CHECKING:
    from edgepipe.runner import Tensors

HELD_OUT = 0.2
"""Share of the calibration data that nothing is learnt from, so that it can be judged on it."""
LARGEST_PROOF = 256 << 20
"""Bytes of held-out samples that a proof takes; of more, evenly chosen ones."""


@dataclass(frozen=True)
class Learning:
    """`calibration` is learnt from, `proof` is what the result is run on beside the float model."""

    calibration: DataSource
    proof: DataSource

    @staticmethod
    def of(calibration: DataSource, samples: DataSource | None, held_out: float) -> Learning:
        """Samples that were given for the proofs leave the whole calibration data to learn from."""
        if samples is not None:
            return Learning(calibration, samples)
        return Learning(*calibration.split(held_out))


def write_proof_samples(source: dict[str, Any], signature: dict[str, Any], path: str) -> list[int]:
    """A worker's job: the samples, the first one again at the end. Their labels, -1 for none."""
    from edgepipe import tensors

    chosen, labels = _some(source, signature)
    tensors.write(Path(path), [*chosen, chosen[0]])
    return labels


def write_samples(source: dict[str, Any], signature: dict[str, Any], path: str) -> int:
    """A worker's job: the samples, for a toolchain that lacks their reader; how many."""
    from edgepipe import tensors

    chosen, _ = _some(source, signature)
    tensors.write(Path(path), chosen)
    return len(chosen)


def _some(source: dict[str, Any], signature: dict[str, Any]) -> tuple[list[Tensors], list[int]]:
    """As many samples as `LARGEST_PROOF` allows, evenly chosen, and their labels."""
    dataset = DataSource.from_json(source).open(Signature.from_json(signature))
    chosen: list[Tensors] = []
    labels = []
    step = 1
    for number, sample in enumerate(dataset):
        if not chosen:
            size = sum(array.nbytes for array in sample.feeds.values())
            step = max(1, -(-len(dataset) * size // LARGEST_PROOF))
        if number % step == 0:
            chosen.append(sample.feeds)
            labels.append(-1 if sample.label is None else sample.label)
    return chosen, labels


class Written:
    """Samples that a worker of another toolchain wrote, with where they are from."""

    def __init__(self, source: DataSource, path: Path) -> None:
        self.source = source
        self.path = path
        self.problems: list[str] = []

    def __len__(self) -> int:
        from edgepipe import tensors

        return tensors.count(self.path)

    def __iter__(self) -> Iterator[Sample]:
        from edgepipe import tensors

        for feeds in tensors.read(self.path):
            yield Sample(feeds)


def open_data(data: dict[str, Any] | None, ends: Signature) -> Dataset | Written | None:
    """In the worker: what `data_of` described, or what was written of it."""
    if data is None:
        return None
    source = DataSource.from_json(data["source"])
    return Written(source, Path(data["written"])) if data["written"] else source.open(ends)


def data_of(learning: Learning | None, wanted: bool, artifact: Artifact) -> tuple[Any, str]:
    """The source for a stage as plain data with its digest; nothing where none is wanted."""
    if learning is None or not wanted:
        return None, ""
    source = learning.calibration
    return {"source": source.to_json(), "written": ""}, source.key(artifact.ends())
