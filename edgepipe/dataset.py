"""The user's data as samples: where it lies, what is done to it, which of it is taken."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepipe import catalog
from edgepipe.artifact import Signature
from edgepipe.data import choosing, preprocessing
from edgepipe.data.kind import kind_of, names_function
from edgepipe.data.preprocessing import Preprocessing
from edgepipe.data.reader import Reader, Sample, Unreadable
from edgepipe.errors import OptionError, SamplesError, TrustRequired

REVISION = 1
"""Raised when the same files would give other samples."""
RANDOM = "random"
BAD_SHARE = 0.05
"""Of the samples of a data set, how many may be unreadable; one always may."""

__all__ = ["RANDOM", "DataSource", "Dataset", "Sample"]


@dataclass(frozen=True)
class DataSource:
    """All that decides which samples there are. Plain data: it goes to workers and into reports.

    `where` is a file, a folder, `module:function` or `random`. `labels` is a file of labels, or
    the name of a column or array. `part` is '' for all, or one side of a `split`.
    """

    where: str
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    labels: str = ""
    columns: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    python_path: tuple[str, ...] = ()
    trust: bool = False
    part: str = ""
    held_out: float = 0.0
    apart: tuple[str, ...] = ()
    """Columns or arrays that are neither fed nor labels: what is true, of a regression."""

    @staticmethod
    def of(
        where: str | Path, table: Mapping[str, Any] | None = None, **settings: Any
    ) -> DataSource:
        """As a user names it: paths from the current folder, preprocessing as a table."""
        text = str(where)
        path = Path(text).expanduser()
        if text == RANDOM and not path.exists():
            named = text
        else:
            named = text if names_function(text) and not path.exists() else str(path.absolute())
        labels = str(settings.pop("labels", "") or "")
        if labels and Path(labels).expanduser().is_file():
            labels = str(Path(labels).expanduser().absolute())
        limit = settings.get("limit")
        if limit is not None and limit < 1:
            raise OptionError(f"--limit takes a number from 1 on, received {limit}")
        return DataSource(named, preprocessing.read(table or {}), labels, **settings)

    @property
    def random(self) -> bool:
        """Whether this is noise, and must be marked as such wherever it was used."""
        return self.where == RANDOM

    @property
    def toolchain(self) -> str:
        """The toolchain that must open it; '' where the core can."""
        return self._kind.toolchain

    @functools.cached_property
    def _kind(self) -> type[Reader]:
        kind: type[Reader] = catalog.load(kind_of(self.where))
        return kind

    def words(self) -> str:
        if self.random:
            return f"random noise (seed {self.seed}), not data"
        return self.where

    def to_json(self) -> dict[str, Any]:
        return {
            "where": self.where,
            "preprocessing": self.preprocessing.to_json(),
            "labels": self.labels,
            "columns": list(self.columns),
            "limit": self.limit,
            "seed": self.seed,
            "python_path": list(self.python_path),
            "trust": self.trust,
            "part": self.part,
            "held_out": self.held_out,
            "apart": list(self.apart),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> DataSource:
        return DataSource(
            **{
                **data,
                "preprocessing": preprocessing.read(data["preprocessing"]),
                "columns": tuple(data["columns"]),
                "python_path": tuple(data["python_path"]),
                "apart": tuple(data.get("apart", ())),
            }
        )

    def key(self, signature: Signature) -> str:
        """A digest of the samples that this gives a model, without reading them into arrays."""
        ends = [(port.name, port.given_shape(), port.dtype, port.high) for port in signature.inputs]
        data = self.to_json()
        for name in ("where", "python_path", "trust"):
            del data[name]
        if not self.apart:
            del data["apart"]
        labels = Path(self.labels)
        if self.labels and labels.is_file():
            data["labels"] = hashlib.sha256(labels.read_bytes()).hexdigest()
        reader = self._reader(signature)
        content = reader.digest(lambda: Dataset(reader, self).indices)
        facts = [REVISION, self._kind.__name__, ends, data, content]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def split(self, held_out: float) -> tuple[DataSource, DataSource]:
        """Two disjoint parts; the second is a share of all (below 1), or a number of samples."""
        return (
            replace(self, part="calibration", held_out=held_out),
            replace(self, part="held-out", held_out=held_out),
        )

    def open(self, signature: Signature) -> Dataset:
        """The samples for a model; where `toolchain` names one, only a worker of it can."""
        dataset = Dataset(self._reader(signature), self)
        if not self.part:
            return dataset
        return dataset.split(self.held_out)[0 if self.part == "calibration" else 1]

    def _reader(self, signature: Signature) -> Reader:
        if ":" in self.where and not self.trust and self._kind.__name__ == "FunctionReader":
            raise TrustRequired(
                f"{self.where} is code, and reading samples would run it",
                hint="if you trust it, add --trust.",
            )
        known = {name for name, _ in self.preprocessing.by_input}
        unknown = known - {port.name for port in signature.inputs}
        if unknown:
            raise SamplesError(
                f"the preprocessing names inputs {sorted(unknown)}, the model's are"
                f" {[port.name for port in signature.inputs]}"
            )
        return self._kind(self, signature)


class Dataset:
    """Samples, read while they are iterated over; again each time. Memory stays flat."""

    def __init__(
        self, reader: Reader, source: DataSource, indices: Sequence[int] | None = None
    ) -> None:
        self.source = source
        self.problems: list[str] = []
        """What the last iteration passed over, or found strange."""
        self._reader = reader
        self._given = indices

    @functools.cached_property
    def indices(self) -> Sequence[int]:
        if self._given is not None:
            return self._given
        count = self._reader.count()
        if not count:
            raise SamplesError(f"{self.source.where} holds no sample")
        return choosing.choose(count, self._reader.labels(), self.source.limit, self.source.seed)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def available(self) -> int:
        """How many there are before a limit."""
        return self._reader.count()

    @functools.cached_property
    def labels(self) -> list[int | None] | None:
        """One for each sample of this data set, without reading the samples."""
        found = self._reader.labels()
        return None if found is None else [found[index] for index in self.indices]

    def holds_pixels(self, name: str) -> bool:
        """Whether an input gets bytes, 0 to 255, that nothing scales yet."""
        return self._reader.holds_pixels(name)

    @property
    def label_names(self) -> Sequence[str]:
        return self._reader.label_names()

    @functools.cached_property
    def names(self) -> Sequence[str]:
        """Of all there are before a limit, by index; empty where samples are no files."""
        return self._reader.names()

    def __iter__(self) -> Iterator[Sample]:
        """Unreadable samples are passed over up to a limit, and told in `problems`."""
        self.problems = []
        bad: list[Unreadable] = []
        most = max(1, int(BAD_SHARE * len(self)))
        read = 0
        for found in self._reader.read(self.indices):
            if isinstance(found, Sample):
                read += 1
                yield found
                continue
            bad.append(found)
            self.problems.append(f"{found.name} can't be read: {found.reason}")
            if len(bad) > most:
                raise _too_many(self.source, bad, len(self))
        if not read:
            raise _too_many(self.source, bad, len(self))

    def at(self, places: Sequence[int]) -> Iterator[Sample | Unreadable]:
        """One after the other, unreadable ones too, for `places` of `indices`; the list may grow
        while it is read, see `edgepipe.data.streaming`."""
        return self._reader.read(places)

    def prints(self) -> Iterator[tuple[str, str]]:
        """Name and digest of each sample, to find it in other data."""
        return self._reader.prints(self.indices)

    def split(self, held_out: float) -> tuple[Dataset, Dataset]:
        """Two disjoint parts with the labels in the same shares: the rest, and the held-out ones.

        `held_out` is a share below 1, or a number. The same seed gives the same parts.
        """
        kept, apart = choosing.split(
            self.indices, self._reader.labels(), held_out, self.source.seed
        )
        return Dataset(self._reader, self.source, kept), Dataset(self._reader, self.source, apart)


def _too_many(source: DataSource, bad: Sequence[Unreadable], count: int) -> SamplesError:
    named = "; ".join(f"{item.name}: {item.reason}" for item in bad[:3])
    return SamplesError(
        f"{source.where}: {len(bad)} of {count} samples can't be read"
        f" (at most {BAD_SHARE:.0%} are passed over): {named}",
        hint="take them out of the data, or mend them.",
        unreadable=[item.name for item in bad],
    )
