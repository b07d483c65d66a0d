"""Folders of files as samples: which file is which sample, and which label it has."""

from __future__ import annotations

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.artifact import Port, digest_file, files_below
from edgepipe.data.labels import Labels, matched, numbered, read_names, read_pairs
from edgepipe.data.reader import Reader, Sample, Unreadable
from edgepipe.errors import SamplesError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FilesReader(Reader):
    """One file is one sample of the only input; of several inputs, each has a folder by its name.

    Labels come from the first folder below the one that was named, or from a file.
    """

    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def load(self, path: Path, port: Port) -> NDArray[Any]:
        """The feed that a file is for an input. Raises what `unreadable` names, if damaged."""

    unreadable: ClassVar[tuple[type[Exception], ...]] = (ValueError, OSError, EOFError)

    @functools.cached_property
    def _root(self) -> Path:
        return Path(self.source.where)

    @functools.cached_property
    def _files(self) -> dict[str, dict[str, Path]]:
        """For each sample its name and the file of each input."""
        ports = self.signature.inputs
        if self._root.is_file():
            if len(ports) != 1:
                raise self._one_file_for_several()
            return {self._root.name: {ports[0].name: self._root}}
        if len(ports) == 1:
            return {name: {ports[0].name: path} for name, path in self._below(self._root).items()}
        return self._by_input([port.name for port in ports])

    def _one_file_for_several(self) -> SamplesError:
        names = ", ".join(port.name for port in self.signature.inputs)
        return SamplesError(
            f"{self._root} is one file, the model has several inputs: {names}",
            hint="give a folder that holds a folder for each of them.",
        )

    def _below(self, folder: Path) -> dict[str, Path]:
        return {
            path.relative_to(folder).as_posix(): path
            for path in files_below(folder)
            if path.suffix.lower() in self.suffixes and not path.name.startswith(".")
        }

    def _by_input(self, names: Sequence[str]) -> dict[str, dict[str, Path]]:
        absent = [name for name in names if not (self._root / name).is_dir()]
        if absent:
            raise SamplesError(
                f"{self._root} holds no folder for the inputs {absent}",
                hint="a model of several inputs takes a folder for each, by its name, with files"
                " of the same names.",
            )
        found = {name: self._below(self._root / name) for name in names}
        stems = {
            name: {Path(key).with_suffix("").as_posix(): key for key in below}
            for name, below in found.items()
        }
        every = [set(one) for one in stems.values()]
        odd = set[str]().union(*every) - every[0].intersection(*every)
        if odd:
            raise SamplesError(
                f"{self._root}: {len(odd)} samples are not there for every input, for instance"
                f" {sorted(odd)[0]!r}",
                hint="the folders of the inputs hold files of the same names.",
            )
        return {
            stem: {name: found[name][stems[name][stem]] for name in names}
            for stem in sorted(stems[names[0]])
        }

    @functools.cached_property
    def _names(self) -> list[str]:
        return list(self._files)

    def count(self) -> int:
        return len(self._names)

    def labels(self) -> Sequence[int | None] | None:
        return self._labels.numbers or None

    def label_names(self) -> Sequence[str]:
        return self._labels.names

    def names(self) -> Sequence[str]:
        return self._names

    @functools.cached_property
    def _labels(self) -> Labels:
        given = Path(self.source.labels) if self.source.labels else None
        if given is not None and not given.is_file():
            raise SamplesError(
                f"no labels at {given}",
                hint="give a .csv of name,label, or a .txt of the model's classes.",
            )
        if given is not None and given.suffix.lower() != ".txt":
            return numbered(matched(self._names, read_pairs(given), given), (), str(given))
        classes = read_names(given) if given is not None else []
        folders = [name.partition("/")[0] if "/" in name else "" for name in self._names]
        if not any(folders):
            if classes:
                raise SamplesError(
                    f"{self._root} holds no folders that say which of {given} a file is",
                    hint="sort the files into a folder for each class, or give a .csv of"
                    " name,label.",
                )
            return Labels(())
        beside = [name for name, folder in zip(self._names, folders, strict=True) if not folder]
        if beside:
            raise SamplesError(
                f"{self._root}: {len(beside)} files lie beside the folders that label the"
                f" others, for instance {beside[0]!r}",
                hint="move them into the folder of their label, or give --labels FILE.csv.",
            )
        return numbered(folders, classes, str(self._root))

    def read(self, indices: Sequence[int]) -> Iterator[Sample | Unreadable]:
        labels = self.labels()
        for index in indices:
            name = self._names[index]
            feeds = {}
            try:
                for port in self.signature.inputs:
                    feeds[port.name] = self.load(self._files[name][port.name], port)
            except self.unreadable as error:
                words = str(error).replace(str(self._root), self._root.name)
                yield Unreadable(name, words or type(error).__name__)
                continue
            yield Sample(feeds, labels[index] if labels else None, name)

    def prints(self, indices: Sequence[int]) -> Iterator[tuple[str, str]]:
        """Of the files as they are: decoding images to compare them would take a minute."""
        for index in indices:
            name = self._names[index]
            hasher = hashlib.blake2b(digest_size=8)
            for port in self.signature.inputs:
                hasher.update(digest_file(self._files[name][port.name]).encode())
            yield name, hasher.hexdigest()

    def digest(self, chosen: Callable[[], Sequence[int]]) -> str:
        """Of the files that are chosen, their names and labels: a large folder isn't read whole."""
        hasher = hashlib.sha256()
        labels = self.labels()
        for index in chosen():
            name = self._names[index]
            parts = [digest_file(path) for path in self._files[name].values()]
            label = labels[index] if labels else None
            hasher.update(f"{name}\0{label}\0{' '.join(parts)}\n".encode(errors="surrogateescape"))
        return hasher.hexdigest()
