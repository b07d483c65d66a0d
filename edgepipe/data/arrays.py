"""Samples from one .npz or .npy file: arrays by input name, read row by row."""

from __future__ import annotations

import functools
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgepipe.artifact import Port, digest_file
from edgepipe.data import fitting
from edgepipe.data.labels import Labels, names_of, numbered
from edgepipe.data.reader import Reader, Sample, Unreadable
from edgepipe.errors import SamplesError

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNREADABLE = (
    ValueError, OSError, EOFError, KeyError, MemoryError, OverflowError, NotImplementedError,
    RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise on damaged files; some claim arrays larger than the machine."""
HEADER, ENCRYPTED = 30, 0x1
"""Bytes of a member's own header before its name, and the flag (PKWARE's APPNOTE.TXT, 4.3.7)."""
LABELS = ("label", "labels", "y")
UNNAMED = {"", "arr_0", "x"}


@dataclass(frozen=True)
class Member:
    """One array in a file: what its header claims, checked against the bytes that are there."""

    file: Path
    inside: str
    name: str
    shape: tuple[int, ...]
    dtype: Any
    fortran: bool
    start: int

    def open(self, stack: ExitStack) -> IO[bytes]:
        if not self.inside:
            return stack.enter_context(self.file.open("rb"))
        archive = stack.enter_context(zipfile.ZipFile(self.file))
        return stack.enter_context(archive.open(self.inside))

    def whole(self) -> NDArray[Any]:
        import numpy as np

        with ExitStack() as stack:
            file = self.open(stack)
            file.seek(self.start)
            data = _exactly(file, math.prod(self.shape) * self.dtype.itemsize)
            order: Any = "F" if self.fortran else "C"
            return np.frombuffer(data, self.dtype).reshape(self.shape, order=order)

    def rows(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """These rows along the first axis; the file is read once, from its beginning."""
        import numpy as np

        if self.fortran and len(self.shape) > 1:
            array = self.whole()
            yield from (array[index] for index in indices)
            return
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        with ExitStack() as stack:
            file = self.open(stack)
            at = 0
            for index in indices:
                wanted = self.start + index * size
                if wanted != at:
                    file.seek(wanted)
                data = _exactly(file, size)
                at = wanted + size
                yield np.frombuffer(data, self.dtype).reshape(self.shape[1:])


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError(f"{size} bytes were announced and {len(data)} are there")
    return data


def members(path: Path) -> dict[str, Member]:
    """The arrays of a file by name; that of a .npy has the name ''."""
    try:
        if path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found = [_member_of_zip(path, archive, info) for info in archive.infolist()]
        else:
            with path.open("rb") as file:
                found = [_member(path, "", "", file, path.stat().st_size)]
    except UNREADABLE as error:
        raise _damaged(path, error) from error
    return {member.name: member for member in found}


def _member_of_zip(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    with archive.open(info) as file:
        name = info.filename.removesuffix(".npy")
        found = _member(path, info.filename, name, file, info.file_size)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ENCRYPTED:
        return found
    # Read past zipfile: it would go through all that lies before a row, and sum it up, too.
    return replace(found, inside="", start=found.start + _begin(path, info))


def _begin(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes are: behind its own header, whose lengths the directory lacks."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = _exactly(file, HEADER)
    name, extra = struct.unpack_from("<HH", header, HEADER - 4)
    return info.header_offset + HEADER + int(name) + int(extra)


def _member(path: Path, inside: str, name: str, file: IO[bytes], size: int) -> Member:
    from numpy.lib import format

    version = format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = format.read_array_header_2_0(file)
    else:
        raise ValueError(f"an array of version {version}, which only named fields need")
    if dtype.hasobject:
        raise ValueError(f"{name or 'it'} holds pickled objects")
    start = file.tell()
    if start + math.prod(shape) * dtype.itemsize > size:
        raise EOFError(
            f"{name or 'it'} claims {math.prod(shape) * dtype.itemsize} bytes,"
            f" {size - start} are there"
        )
    return Member(path, inside, name, shape, dtype, fortran, start)


def _damaged(path: Path, error: BaseException) -> SamplesError:
    return SamplesError(
        f"{path} can't be read as samples: {error}",
        hint="give a .npz or .npy file of plain arrays (no pickled objects).",
    )


class ArrayReader(Reader):
    """One array for each input, one sample or many along the first axis."""

    @functools.cached_property
    def _path(self) -> Path:
        return Path(self.source.where)

    @functools.cached_property
    def _members(self) -> dict[str, Member]:
        return members(self._path)

    @functools.cached_property
    def _label_name(self) -> str | None:
        """The array that holds the labels; that of a .npy is named '', so None says none."""
        inputs = {port.name for port in self.signature.inputs}
        wanted = self.source.labels
        if wanted and not Path(wanted).is_file():
            if wanted not in self._members:
                raise SamplesError(
                    f"{self._path} holds no array {wanted!r} of labels",
                    hint=f"it holds {_listed(self._members)}.",
                )
            return wanted
        others = [name for name in LABELS if name in self._members and name not in inputs]
        return others[0] if others and len(self._members) > 1 else None

    @functools.cached_property
    def _inputs(self) -> dict[str, Member]:
        """The array of each input."""
        left_out = {self._label_name, *self.source.apart}
        found = {name: one for name, one in self._members.items() if name not in left_out}
        ports = self.signature.inputs
        if len(found) == 1 and len(ports) == 1 and set(found) <= UNNAMED:
            return {ports[0].name: next(iter(found.values()))}
        expected = [port.name for port in ports]
        if set(found) != set(expected):
            raise SamplesError(
                f"{self._path} holds arrays named {_listed(found)},"
                f" the model's inputs are {_listed(expected)}",
                hint="save them by name: numpy.savez(FILE, "
                + ", ".join(f"{name}=…" for name in expected)
                + ").",
            )
        return found

    @functools.cached_property
    def _stacked(self) -> dict[str, bool]:
        """Whether an array holds many samples, for each input."""
        return {
            port.name: _is_stack(self._path, self._inputs[port.name], port, self.source)
            for port in self.signature.inputs
        }

    def count(self) -> int:
        return self._count

    @functools.cached_property
    def _count(self) -> int:
        counts = {
            name: self._inputs[name].shape[0] if stacked else 1
            for name, stacked in self._stacked.items()
        }
        if len(set(counts.values())) != 1:
            raise SamplesError(f"{self._path} holds unlike numbers of samples: {counts}")
        return next(iter(counts.values()))

    def holds_pixels(self, name: str) -> bool:
        return bool(self._inputs[name].dtype == "uint8")

    def labels(self) -> Sequence[int | None] | None:
        return self._labels.numbers or None

    def label_names(self) -> Sequence[str]:
        return self._labels.names

    @functools.cached_property
    def _labels(self) -> Labels:
        names = names_of(self.source.labels, self._label_name is not None, self._path)
        if self._label_name is None:
            return Labels(())
        member = self._members[self._label_name]
        shape = tuple(size for size in member.shape if size != 1) or (1,)
        if len(shape) != 1 or member.dtype.kind not in "iubUS":
            raise SamplesError(
                f"{self._path}: the labels {member.name!r} are {member.dtype} of shape"
                f" {member.shape}, expected one whole number or name for each sample",
                hint="of one-hot labels, save array.argmax(axis=1); masks and boxes go under"
                " another name, and that is said with --truth.",
            )
        if shape[0] != self.count():
            raise SamplesError(
                f"{self._path}: {shape[0]} labels in {member.name!r} for {self.count()} samples",
                hint="save one label for each sample, in the same order.",
            )
        try:
            values = member.whole().reshape(-1)
        except UNREADABLE as error:
            raise _damaged(self._path, error) from error
        if member.dtype.kind in "iub":
            return Labels(tuple(int(value) for value in values), tuple(names))
        texts = [v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()]
        return numbered(texts, names, str(self._path))

    def read(self, indices: Sequence[int]) -> Iterator[Sample | Unreadable]:
        ports = self.signature.inputs
        steps = [self.source.preprocessing.of(port.name) for port in ports]
        columns = [self._column(port, indices) for port in ports]
        labels = self.labels()
        try:
            for index, *arrays in zip(indices, *columns, strict=True):
                name = f"sample {index}"
                where = f"{self._path}, {name}"
                feeds = {
                    port.name: fitting.fit(array, port, step, where)
                    for port, step, array in zip(ports, steps, arrays, strict=True)
                }
                yield Sample(feeds, labels[index] if labels else None, name)
        except UNREADABLE as error:
            raise _damaged(self._path, error) from error

    def _column(self, port: Port, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        member = self._inputs[port.name]
        return member.rows(indices) if self._stacked[port.name] else iter([member.whole()])

    def digest(self, chosen: Callable[[], Sequence[int]]) -> str:
        self.count()  # Says now what is wrong with the file.
        return digest_file(self._path)


def _is_stack(path: Path, member: Member, port: Port, source: Any) -> bool:
    steps = source.preprocessing.of(port.name)
    fitting.check_kind(member.dtype, port, str(path), steps)
    shape = fitting.shape_of(port)
    for received, stacked in ((member.shape, False), (member.shape[1:], True)):
        if stacked and len(member.shape) == 0:
            continue
        if fitting.moved_shape(received, port, steps) == shape:
            return stacked
        if stacked and (1, *fitting.moved_shape(received, port, steps)) == shape:
            return True
    raise fitting.wrong_shape(str(path), port, member.shape)


def _listed(names: Any) -> str:
    return ", ".join(repr(str(name)) for name in names) or "nothing"
