"""A table of TFLite's schema as a Python object, read with every offset checked."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.errors import UnknownFormat, UnknownName, UnsupportedModel
from edgepipe.tflite.flatbuffer import Reader
from edgepipe.tflite.schema import ENUMS, TABLES, UNIONS, WIDTHS, Field

_COST_OF_A_TABLE = 64
"""Against the reader's budget: bytes of memory that the smallest record takes."""


class Record:
    """One table: its fields as attributes, with the schema's defaults where nothing was given.

    Numbers are Python's, enumerations their names, vectors tuples, vectors of bytes arrays that
    look into the file. None stands for a vector, text or table that is left out.
    """

    __slots__ = ("kind", "values")
    kind: str
    values: dict[str, Any]

    def __init__(self, kind: str, **given: Any) -> None:
        if kind not in TABLES:
            raise UnknownName.of("TFLite table", kind, TABLES)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "values", {field.name: field.default for field in TABLES[kind]})
        for name, value in given.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise UnknownName.of(f"field of {self.kind}", name, self.values) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.values:
            raise UnknownName.of(f"field of {self.kind}", name, self.values)
        self.values[name] = value

    def __reduce__(self) -> tuple[Any, ...]:
        return (_record, (self.kind, self.values))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self.kind == other.kind and all(
            np.array_equal(value, other.values[name]) for name, value in self.values.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        given = [
            f"{field.name}={self.values[field.name]!r}"
            for field in TABLES[self.kind]
            if self.values[field.name] != field.default
        ]
        return f"{self.kind}({', '.join(given)})"


def _record(kind: str, values: dict[str, Any]) -> Record:
    return Record(kind, **values)


def decode(reader: Reader, at: int, kind: str) -> Record:
    """The table at a position; refuses what the schema doesn't know rather than losing it."""
    reader.spend(_COST_OF_A_TABLE)
    vtable = at - int(reader.number("i", at))
    size, length = int(reader.number("H", vtable)), int(reader.number("H", vtable + 2))
    if size < 4 or size % 2 or length < 4 or at < 0 or at + length > reader.size:
        raise UnknownFormat(f"damaged: no table at byte {at}")
    slots = reader.numbers(f"{size // 2}H", vtable)[2:]
    record = Record(kind)
    fields = TABLES[kind]
    _refuse_unknown(kind, fields, slots)
    for field in fields:
        offset = slots[field.slot] if field.slot < len(slots) else 0
        if offset:
            if offset >= length:
                raise UnknownFormat(f"damaged: {kind}.{field.name} lies outside its table")
            tag = slots[field.slot - 1] if field.kind == "union" else 0
            record.values[field.name] = _value(reader, kind, field, at + offset, at + tag)
        elif field.kind == "union" and field.slot <= len(slots) and slots[field.slot - 1]:
            # A type without a table: an operator whose options were left at their defaults.
            number = int(reader.number("B", at + slots[field.slot - 1]))
            record.values[field.name] = Record(_member(kind, field, number)) if number else None
    return record


def _refuse_unknown(kind: str, fields: tuple[Field, ...], slots: tuple[int, ...]) -> None:
    known = {field.slot for field in fields}
    known |= {field.slot - 1 for field in fields if field.kind == "union"}
    for slot, offset in enumerate(slots):
        if offset and slot not in known:
            raise UnsupportedModel(
                f"the file's {kind} has field {slot}, which the schema of LiteRT 2.3 lacks",
                hint="it was written by a newer tool, and editing would lose what it means.",
            )


def _member(kind: str, field: Field, number: int) -> str:
    members = UNIONS[field.of]
    if number >= len(members):
        raise UnsupportedModel(
            f"{kind}.{field.name} is of type {number}; the newest known is {len(members) - 1}",
            hint="it was written by a newer tool, and editing would lose what it means.",
        )
    return members[number]


def _value(reader: Reader, kind: str, field: Field, place: int, tag: int) -> Any:
    if field.kind == "number":
        return reader.number(field.of, place)
    if field.kind == "enum":
        return _enumerated(reader, kind, field, place)
    if field.kind == "union":
        number = int(reader.number("B", tag))
        return (
            decode(reader, reader.follow(place), _member(kind, field, number)) if number else None
        )
    start = reader.follow(place)
    if field.kind == "text":
        return text(reader, start)
    if field.kind == "table":
        return decode(reader, start, field.of)
    if field.kind == "numbers":
        return _numbers(reader, start, field.of)
    start, count = reader.span(start, 4)
    reader.spend(4 * count)
    found = (reader.follow(start + 4 * number) for number in range(count))
    if field.kind == "texts":
        return tuple(text(reader, one) for one in found)
    return [decode(reader, one, field.of) for one in found]


def _enumerated(reader: Reader, kind: str, field: Field, place: int) -> str:
    names, number = ENUMS[field.of], int(reader.number("b", place))
    if not 0 <= number < len(names):
        raise UnsupportedModel(
            f"{kind}.{field.name} is {number}; the newest known is {len(names) - 1}",
            hint="it was written by a newer tool, or the file is damaged.",
        )
    return names[number]


def text(reader: Reader, at: int) -> str:
    start, count = reader.span(at, 1)
    reader.spend(count)
    # Converters write names in whatever bytes the model had; they are to come back as they were.
    return reader.source[start : start + count].decode("utf-8", "surrogateescape")


def _numbers(reader: Reader, at: int, code: str) -> tuple[Any, ...] | NDArray[Any]:
    width = WIDTHS[code]
    start, count = reader.span(at, width)
    if code == "B":
        return np.frombuffer(reader.source, np.uint8, count, start) if count else _NOTHING
    reader.spend(width * count)
    return struct.unpack_from(f"<{count}{code}", reader.source, start)


_NOTHING = np.empty(0, np.uint8)
_NOTHING.setflags(write=False)
