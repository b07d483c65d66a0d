"""Writes a record as a FlatBuffer: the same record always gives the same bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from edgepipe.errors import UnsupportedModel
from edgepipe.tflite.record import Record
from edgepipe.tflite.schema import ENUMS, TABLES, UNIONS, WIDTHS, Field

LARGEST = 2**31 - 1
"""Bytes that FlatBuffer's signed offsets reach."""

_ALIGNMENT = 16
"""Of a buffer's bytes: kernels load vectors from them."""

_PADDING = bytes(_ALIGNMENT)


class _Writer:
    """Tables are laid down parent first; the bytes of buffers come last and are not copied."""

    def __init__(self) -> None:
        self.head = bytearray()
        self.vtables: dict[bytes, int] = {}
        self.late: list[tuple[int, memoryview]] = []

    def align(self, width: int, rest: int = 0) -> int:
        """Pad until the position is `rest` more than a multiple of `width`."""
        self.head += bytes((rest - len(self.head)) % width)
        return len(self.head)

    def point(self, slot: int, target: int) -> None:
        struct.pack_into("<I", self.head, slot, target - slot)

    def table(self, record: Record) -> int:
        cells = _cells(record)
        # Widest first, so that none needs padding; the offset to the vtable takes the first four.
        places, length = {}, 4
        for cell in sorted(cells, key=lambda cell: (-cell.width, cell.slot)):
            places[cell.slot], length = length, length + cell.width
        count = max(places, default=-1) + 1
        vtable = struct.pack(
            f"<{count + 2}H", 2 * count + 4, length, *(places.get(slot, 0) for slot in range(count))
        )
        if vtable not in self.vtables:
            self.vtables[vtable] = self.align(2)
            self.head += vtable
        wide = any(cell.width == 8 for cell in cells)
        start = self.align(8, 4) if wide else self.align(4)
        self.head += struct.pack("<i", start - self.vtables[vtable]) + bytes(length - 4)
        for cell in cells:
            place = start + places[cell.slot]
            if cell.code:
                struct.pack_into("<" + cell.code, self.head, place, cell.value)
        for cell in cells:
            if not cell.code:
                self.child(start + places[cell.slot], cell.field, cell.value)
        return start

    def child(self, slot: int, field: Field, value: Any) -> None:
        if field.kind in ("table", "union"):
            self.point(slot, self.table(value))
        elif field.kind == "text":
            self.point(slot, self.text(value))
        elif field.kind == "tables":
            self.vector(slot, [self.table] * len(value), value)
        elif field.kind == "texts":
            self.vector(slot, [self.text] * len(value), value)
        elif field.of == "B":
            self.late.append((slot, np.ascontiguousarray(value, np.uint8).data.cast("B")))
        else:
            self.numbers(slot, field.of, value)

    def text(self, value: str) -> int:
        encoded = value.encode("utf-8", "surrogateescape")
        start = self.align(4)
        self.head += struct.pack("<I", len(encoded)) + encoded + b"\0"
        return start

    def vector(self, slot: int, writers: Sequence[Any], values: Sequence[Any]) -> None:
        start = self.align(4)
        self.point(slot, start)
        self.head += struct.pack("<I", len(values)) + bytes(4 * len(values))
        for number, (write, value) in enumerate(zip(writers, values, strict=True)):
            self.point(start + 4 + 4 * number, write(value))

    def numbers(self, slot: int, code: str, values: Any) -> None:
        start = self.align(8, 4) if WIDTHS[code] == 8 else self.align(4)
        self.point(slot, start)
        self.head += struct.pack(f"<I{len(values)}{code}", len(values), *values)

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The whole file, in order."""
        end, placed = len(self.head), []
        for slot, data in self.late:
            start = end + 4 + -(end + 4) % _ALIGNMENT
            placed.append((start - end - 4, data))
            end = start + len(data)
            if end > LARGEST:
                break
            self.point(slot, start - 4)
        if end > LARGEST:
            size = len(self.head) + sum(len(data) for _, data in self.late)
            raise UnsupportedModel(
                f"the model takes {size / 1e9:.1f} GB, and a TFLite file holds at most 2 GB",
                hint="quantize its weights, or split it.",
            )
        yield bytes(self.head)
        for padding, data in placed:
            yield _PADDING[:padding] + struct.pack("<I", len(data))
            yield data


class _Cell:
    """One field that is written: a number right there, or an offset to what comes later."""

    __slots__ = ("code", "field", "slot", "value", "width")

    def __init__(self, field: Field, slot: int, code: str, value: Any) -> None:
        self.field, self.slot, self.code, self.value = field, slot, code, value
        self.width = WIDTHS[code] if code else 4


def _cells(record: Record) -> list[_Cell]:
    return [cell for field in TABLES[record.kind] for cell in _cells_of(record, field)]


def _cells_of(record: Record, field: Field) -> Iterable[_Cell]:
    value = record.values[field.name]
    if value is None or (field.kind in ("number", "enum") and value == field.default):
        return []
    if field.kind == "number":
        return [_Cell(field, field.slot, field.of, value)]
    if field.kind == "enum":
        return [_Cell(field, field.slot, "b", ENUMS[field.of].index(value))]
    offset = _Cell(field, field.slot, "", value)
    if field.kind != "union":
        return [offset]
    number = UNIONS[field.of].index(value.kind)
    return [_Cell(field, field.slot - 1, "B", number), offset]


def encode(root: Record, identifier: bytes) -> Iterator[bytes | memoryview]:
    """The bytes of a file in pieces, those of vectors of bytes uncopied."""
    writer = _Writer()
    writer.head += bytes(4) + identifier
    struct.pack_into("<I", writer.head, 0, writer.table(root))
    return writer.pieces()
