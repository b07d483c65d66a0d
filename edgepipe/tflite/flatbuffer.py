"""A checked look into a FlatBuffer: every offset is bounded before it is followed."""

from __future__ import annotations

import struct
from mmap import mmap
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgepipe.errors import UnknownFormat

Source: TypeAlias = "bytes | mmap"

_SLACK = 1 << 20
"""Bytes a reader may copy beyond the file's size; more means that parts are used over and over."""


class Reader:
    """The bytes of a file and how much of them was read.

    The budget ends hostile files where a few bytes are referred to a million times.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.size = len(source)
        self.budget = 4 * self.size + _SLACK

    def spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise UnknownFormat("not a FlatBuffer that a tool wrote: it refers to itself endlessly")

    def number(self, layout: str, at: int) -> Any:
        """One little-endian number, `layout` as in `struct`."""
        return self.numbers(layout, at)[0]

    def numbers(self, layout: str, at: int) -> tuple[Any, ...]:
        """Several numbers side by side."""
        layout = "<" + layout
        length = struct.calcsize(layout)
        if at < 0 or at + length > self.size:
            raise UnknownFormat(f"truncated or damaged: {length} bytes wanted at byte {at}")
        return struct.unpack_from(layout, self.source, at)

    def follow(self, at: int) -> int:
        """Where the offset at `at` leads."""
        target = at + int(self.number("I", at))
        if target + 4 > self.size:
            raise UnknownFormat(f"damaged: the offset at byte {at} leads outside the file")
        return target

    def root(self) -> Table:
        return Table(self, self.follow(0))

    def span(self, at: int, width: int) -> tuple[int, int]:
        """Start and length in elements of the vector at `at`."""
        count = int(self.number("I", at))
        if count * width > self.size - at - 4:
            raise UnknownFormat(f"damaged: a vector of {count} at byte {at} does not fit the file")
        return at + 4, count


class Table:
    """One table, its fields addressed by their number in the schema."""

    def __init__(self, reader: Reader, at: int) -> None:
        self.reader, self.at = reader, at
        reader.spend(16)
        self.vtable = at - int(reader.number("i", at))
        self.fields = int(reader.number("H", self.vtable))
        self.length = int(reader.number("H", self.vtable + 2))
        if self.fields < 4 or self.length < 4 or at + self.length > reader.size:
            raise UnknownFormat(f"damaged: no table at byte {at}")

    def place(self, field: int) -> int | None:
        """Where a field's value is, None where the file leaves it out."""
        slot = 4 + 2 * field
        if slot + 2 > self.fields:
            return None
        offset = int(self.reader.number("H", self.vtable + slot))
        if offset >= self.length:
            raise UnknownFormat(f"damaged: field {field} lies outside its table at byte {self.at}")
        return self.at + offset if offset else None

    def number(self, field: int, layout: str, default: int = 0) -> int:
        place = self.place(field)
        return default if place is None else int(self.reader.number(layout, place))

    def text(self, field: int) -> str:
        place = self.place(field)
        if place is None:
            return ""
        start, count = self.reader.span(self.reader.follow(place), 1)
        self.reader.spend(count)
        # Converters write tensor names in whatever bytes the model had.
        return self.reader.source[start : start + count].decode("utf-8", "replace")

    def table(self, field: int) -> Table | None:
        place = self.place(field)
        return None if place is None else Table(self.reader, self.reader.follow(place))

    def tables(self, field: int) -> list[Table]:
        place = self.place(field)
        if place is None:
            return []
        start, count = self.reader.span(self.reader.follow(place), 4)
        self.reader.spend(4 * count)
        return [Table(self.reader, self.reader.follow(start + 4 * i)) for i in range(count)]

    def array(self, field: int, dtype: str) -> NDArray[Any]:
        """A vector of numbers, copied."""
        start, count = self.extent(field, np.dtype(dtype).itemsize)
        self.reader.spend(count * np.dtype(dtype).itemsize)
        if not count:
            return np.empty(0, dtype)
        found: NDArray[Any] = np.frombuffer(self.reader.source, dtype, count, start).copy()
        return found

    def integers(self, field: int, dtype: str = "<i4") -> tuple[int, ...]:
        return tuple(self.array(field, dtype).tolist())

    def extent(self, field: int, width: int = 1) -> tuple[int, int]:
        """Start and length of a vector that is left where it is."""
        place = self.place(field)
        return (0, 0) if place is None else self.reader.span(self.reader.follow(place), width)
