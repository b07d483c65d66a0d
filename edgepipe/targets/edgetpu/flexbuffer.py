"""A checked look into a FlexBuffer: the map that a compiled operator keeps its package in.

The format is described in flatbuffers.dev/internals (FlexBuffers): values lie before the root,
every offset leads backwards, and each value's type and width are packed into one byte.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from edgepipe.errors import UnknownFormat

Value: TypeAlias = "int | float | bytes | list[Value] | dict[str, Value] | None"

_INTEGERS = {1: "bhiq", 2: "BHIQ", 6: "bhiq", 7: "BHIQ", 26: "BHIQ"}
_FLOAT, _KEY, _STRING, _FAR_FLOAT, _MAP, _VECTOR, _TEXTS, _BLOB = 3, 4, 5, 8, 9, 10, 15, 25
_INDIRECT = (6, 7, _FAR_FLOAT)
_MOST = 10_000
"""Values in one buffer; a compiled operator has seven."""
_DEEPEST = 8


def read(data: bytes) -> Value:
    """The root value."""
    if len(data) < 3:
        raise UnknownFormat(f"a FlexBuffer has at least 3 bytes, received {len(data)}")
    width, packed = data[-1], data[-2]
    if width not in (1, 2, 4, 8):
        raise UnknownFormat(f"damaged: a FlexBuffer's root of {width} bytes")
    return _Reader(data).value(len(data) - 2 - width, width, packed, 0)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = _MOST

    def number(self, at: int, width: int, codes: str = "BHIQ") -> int:
        if at < 0 or at + width > len(self.data):
            raise UnknownFormat(f"damaged: a FlexBuffer's number at byte {at}")
        code = codes[width.bit_length() - 1]
        return int(struct.unpack_from("<" + code, self.data, at)[0])

    def back(self, at: int, width: int) -> int:
        """Where the offset at `at` leads."""
        target = at - self.number(at, width)
        if target < 0:
            raise UnknownFormat(f"damaged: a FlexBuffer's offset at byte {at}")
        return target

    def value(self, at: int, parent: int, packed: int, depth: int) -> Value:
        """The value in the slot at `at`, which is `parent` bytes wide."""
        self.left -= 1
        if self.left < 0 or depth > _DEEPEST:
            raise UnknownFormat("damaged: a FlexBuffer that refers to itself")
        kind, width = packed >> 2, 1 << (packed & 3)
        if kind == 0:
            return None
        if kind in _INDIRECT:
            at, parent = self.back(at, parent), width
        if kind in _INTEGERS:
            return self.number(at, parent, _INTEGERS[kind])
        if kind in (_FLOAT, _FAR_FLOAT):
            return self.real(at, parent)
        target = self.back(at, parent)
        if kind in (_STRING, _BLOB):
            return self.data[target : target + self.size(target, width, 1)]
        if kind == _KEY:
            return self.key(target).encode()
        if kind == _TEXTS:
            return self.texts(target, width, depth)
        if kind == _VECTOR:
            return self.items(target, width, depth)
        if kind == _MAP:
            return self.map(target, width, depth)
        raise UnknownFormat(f"a FlexBuffer value of kind {kind}, which no compiled file has")

    def real(self, at: int, width: int) -> float:
        if width < 4 or at < 0 or at + width > len(self.data):
            raise UnknownFormat(f"damaged: a FlexBuffer's number at byte {at}")
        return float(struct.unpack_from("<f" if width == 4 else "<d", self.data, at)[0])

    def size(self, target: int, width: int, each: int) -> int:
        """The length that stands before a text, blob or vector, checked against the end."""
        count = self.number(target - width, width)
        if count * each > len(self.data) - target:
            raise UnknownFormat(f"damaged: {count} values at byte {target} don't fit")
        return count

    def key(self, at: int) -> str:
        end = self.data.find(b"\0", at)
        if end < 0 or end - at > 256:
            raise UnknownFormat(f"damaged: a FlexBuffer's key at byte {at}")
        return self.data[at:end].decode("utf-8", "replace")

    def items(self, target: int, width: int, depth: int) -> list[Value]:
        count = self.size(target, width, width + 1)
        kinds = target + count * width
        return [
            self.value(target + i * width, width, self.data[kinds + i], depth + 1)
            for i in range(min(count, self.left + 1))
        ]

    def texts(self, target: int, width: int, depth: int) -> list[Value]:
        """Texts whose lengths are as wide as the vector's own."""
        packed = _STRING << 2 | width.bit_length() - 1
        count = min(self.size(target, width, width), self.left + 1)
        return [self.value(target + i * width, width, packed, depth + 1) for i in range(count)]

    def map(self, target: int, width: int, depth: int) -> dict[str, Value]:
        keys = self.back(target - 3 * width, width)
        wide = self.number(target - 2 * width, width)
        if wide not in (1, 2, 4, 8):
            raise UnknownFormat(f"damaged: a FlexBuffer's keys of {wide} bytes")
        values = self.items(target, width, depth)
        return {self.key(self.back(keys + i * wide, wide)): value for i, value in enumerate(values)}
