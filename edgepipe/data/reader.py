"""The contract of a reader of one kind of data: how many, their labels, the samples in order."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from edgepipe.artifact import Signature
    from edgepipe.dataset import DataSource
    from edgepipe.runner import Tensors


@dataclass(frozen=True)
class Sample:
    """What is fed to a model once, by input name, in the given model's layouts and types."""

    feeds: Tensors
    label: int | None = None
    name: str = ""


@dataclass(frozen=True)
class Unreadable:
    """A sample that can't be read, and why; some of them are passed over."""

    name: str
    reason: str


def print_of(feeds: Tensors) -> str:
    """64 bits: among a million samples two that differ have the same once in 40 million times."""
    hasher = hashlib.blake2b(digest_size=8)
    for name, array in sorted(feeds.items()):
        hasher.update(f"{name}\0{array.dtype.str}{array.shape}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


class Reader(ABC):
    """Opened on one place for one signature. Holds an index at most, never the samples."""

    toolchain: ClassVar[str] = ""
    """Where it must run; '' is anywhere, the parent too."""

    def __init__(self, source: DataSource, signature: Signature) -> None:
        self.source = source
        self.signature = signature

    @abstractmethod
    def count(self) -> int:
        """How many samples there are."""

    def labels(self) -> Sequence[int | None] | None:
        """One for each sample; None where nothing labels them."""
        return None

    def label_names(self) -> Sequence[str]:
        """Their names by number; empty where they are numbers only."""
        return ()

    def names(self) -> Sequence[str]:
        """Of the samples, as `read` gives them, where they are files; empty where they are not."""
        return ()

    def holds_pixels(self, name: str) -> bool:
        """Whether an input gets bytes, 0 to 255, unless the preprocessing makes others of them."""
        return False

    @abstractmethod
    def read(self, indices: Sequence[int]) -> Iterator[Sample | Unreadable]:
        """These samples one by one; the indices ascend."""

    def prints(self, indices: Sequence[int]) -> Iterator[tuple[str, str]]:
        """Name and digest of each sample's content: the same where the same is fed. '' for what
        can't be read."""
        for found in self.read(indices):
            yield found.name, print_of(found.feeds) if isinstance(found, Sample) else ""

    @abstractmethod
    def digest(self, chosen: Callable[[], Sequence[int]]) -> str:
        """Of the content that `read` would give for what is chosen; runs no code of the user."""
