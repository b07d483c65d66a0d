"""What a model would be fed: how many samples, their labels and ranges, and what looks wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Port, Signature
from edgepipe.data.preprocessing import Steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.dataset import Dataset, DataSource


@dataclass
class Range:
    """The values of one input over all samples, gathered one sample at a time."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    low: float = float("inf")
    high: float = float("-inf")
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, array: NDArray[Any]) -> None:
        import numpy as np

        if not array.size:
            return
        self.low = min(self.low, float(array.min()))
        self.high = max(self.high, float(array.max()))
        self.count += array.size
        self.total += float(array.sum(dtype=np.float64))
        self.squares += float(np.square(array, dtype=np.float64).sum())

    def to_json(self) -> dict[str, Any]:
        count = max(1, self.count)
        mean = self.total / count
        known = self.count > 0
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "min": self.low if known else None,
            "max": self.high if known else None,
            "mean": mean if known else None,
            "std": max(0.0, self.squares / count - mean * mean) ** 0.5 if known else None,
        }


@dataclass(frozen=True)
class Survey:
    """`problems` were passed over, `warnings` are strange; neither keeps the data from use."""

    where: str
    random: bool
    available: int
    samples: int
    labels: dict[str, int] | None
    inputs: list[dict[str, Any]]
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Survey:
        return Survey(**data)


def survey(source: DataSource, signature: Signature) -> Survey:
    """Read all samples of a source once. Raises a SamplesError where they can't be used."""
    dataset = source.open(signature)
    ranges = {
        port.name: Range(
            port.name, tuple(size or 1 for size in port.given_shape() or ()), port.dtype
        )
        for port in signature.inputs
    }
    constant: list[str] = []
    seen: set[bytes] = set()
    labels: Counter[int] = Counter()
    read = 0
    for sample in dataset:
        read += 1
        if sample.label is not None:
            labels[sample.label] += 1
        for name, array in sample.feeds.items():
            ranges[name].add(array)
        if _constant(sample.feeds):
            constant.append(sample.name)
        if len(seen) < 2:
            seen.add(b"".join(array.tobytes() for array in sample.feeds.values()))
    return Survey(
        where=source.words(),
        random=source.random,
        available=dataset.available,
        samples=read,
        labels=_named(labels, dataset.label_names) if labels else None,
        inputs=[found.to_json() for found in ranges.values()],
        problems=dataset.problems,
        warnings=[
            *_beyond(source, labels, signature),
            *_sameness(source, constant, read, len(seen)),
            *(text for port in signature.inputs for text in _scale(dataset, port)),
        ],
    )


def _constant(feeds: dict[str, NDArray[Any]]) -> bool:
    """Whether every input of more than a few numbers holds one number only."""
    wide = [array for array in feeds.values() if array.size > 4]
    return bool(wide) and all((array == array.flat[0]).all() for array in wide)


def _named(counts: Counter[int], names: Sequence[str]) -> dict[str, int]:
    return {
        names[label] if label < len(names) else str(label): counts[label]
        for label in sorted(counts)
    }


def _beyond(source: DataSource, labels: Counter[int], signature: Signature) -> list[str]:
    """Labels that a classifier has no output for: often they count from 1."""
    if not labels or len(signature.outputs) != 1 or not signature.outputs[0].shape:
        return []
    classes = signature.outputs[0].given_shape()[-1]  # type: ignore[index]
    if not classes or classes < 2 or max(labels) < classes:
        return []
    return [
        f"{source.where}: labels go from {min(labels)} to {max(labels)}, the model has {classes}"
        f" outputs, 0 to {classes - 1}"
    ]


def _sameness(source: DataSource, constant: list[str], read: int, different: int) -> list[str]:
    warnings = []
    if constant:
        named = ", ".join(constant[:3]) + (" and others" if len(constant) > 3 else "")
        warnings.append(
            f"{source.where}: {len(constant)} of {read} samples hold a single value each ({named}):"
            " they say little of what a model does"
        )
    if different == 1 and read > 1:
        warnings.append(f"{source.where}: all {read} samples are the same")
    return warnings


def _scale(dataset: Dataset, port: Port) -> list[str]:
    """Pixels that nobody scaled are the most frequent mistake, and nothing fails on it."""
    source = dataset.source
    steps: Steps = source.preprocessing.of(port.name)
    if not dataset.holds_pixels(port.name) or not port.dtype.startswith("float"):
        return []
    if not steps.changes_values:
        return [
            f"{source.where}: pixels go into {port.name!r} as 0 to 255, as nothing says otherwise;"
            " if the model was trained on others, say so with --scale, --mean and --std"
        ]
    small = (*steps.mean, *steps.std)
    if steps.scale == 1.0 and small and max(map(abs, small)) <= 1:
        return [
            f"{source.where}: a mean and std of at most 1 are taken from pixels of 0 to 255; those"
            " of pixels from 0 to 1 want --scale 1/255 beside them"
        ]
    return []
