"""A checked walk over protobuf wire format: fields as numbers and ranges, nothing copied."""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import TypeAlias

from edgepipe.errors import UnknownFormat

Source: TypeAlias = "bytes | mmap"
Range: TypeAlias = tuple[int, int]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types (https://protobuf.dev/programming-guides/encoding); groups, 3 and 4, are refused."""


def varint(source: Source, at: int, end: int) -> tuple[int, int]:
    """The number that starts at `at`, and where the next field starts."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = source[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise UnknownFormat(f"not protobuf: a number runs past byte {end}")


def signed(value: int) -> int:
    """A varint as the int64 that protobuf means."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def fields(source: Source, span: Range) -> Iterator[tuple[int, int, int, int]]:
    """(field, wire type, start, end) for each field of one message.

    For a varint, `start` is its value and `end` is 0.
    """
    at, end = span
    while at < end:
        tag, at = varint(source, at, end)
        field, kind = tag >> 3, tag & 7
        if field == 0 or field >= 1 << 29:
            raise UnknownFormat(f"not protobuf: field number {field} at byte {at}")
        if kind == VARINT:
            value, at = varint(source, at, end)
            yield field, kind, value, 0
            continue
        if kind == BYTES:
            length, at = varint(source, at, end)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise UnknownFormat(f"not protobuf: wire type {kind} at byte {at}")
        if length > end - at:
            raise UnknownFormat(f"not protobuf, or truncated: {length} bytes wanted at byte {at}")
        yield field, kind, at, at + length
        at += length


def text(source: Source, start: int, end: int, limit: int = 1 << 16) -> str:
    """A string field; longer ones than any name has are an error, not memory spent."""
    if end - start > limit:
        raise UnknownFormat(f"a name of {end - start} bytes at byte {start}")
    try:
        return source[start:end].decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnknownFormat(f"a name that is not UTF-8 at byte {start}") from error


def integers(source: Source, kind: int, start: int, end: int) -> Iterator[int]:
    """A repeated int64 field, packed or not; lazily, as a damaged one may claim millions."""
    if kind == VARINT:
        yield signed(start)
    elif kind == BYTES:
        while start < end:
            value, start = varint(source, start, end)
            yield signed(value)
    else:
        raise UnknownFormat(f"not protobuf: wire type {kind} where integers belong")
