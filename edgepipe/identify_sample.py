"""A file that is being identified: its first bytes, and any others on demand, never all of it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from edgepipe.errors import UnknownFormat, UnsupportedModel

HEAD = 4096
LONGEST = 1 << 22
"""More than this is never asked of a file at once, whatever a damaged length says."""


class Damaged(Exception):
    """The content contradicts itself; says in which way. Never leaves `identify`."""


class Sample:
    """Reads are cut at the end of the file, as with any file; `exactly` insists."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path = path
        self.file = file
        self.size = size
        self.head = self.at(0, HEAD)

    def at(self, offset: int, length: int) -> bytes:
        if not 0 <= offset < self.size or length <= 0:
            return b""
        self.file.seek(offset)
        return self.file.read(min(length, LONGEST))

    def exactly(self, offset: int, length: int) -> bytes:
        data = self.at(offset, length)
        if len(data) != length:
            raise Damaged(f"it needs {length:,} bytes at {offset:,} and has {self.size:,} in all")
        return data

    def number(self, offset: int, length: int) -> int:
        """A little-endian unsigned number."""
        return int.from_bytes(self.exactly(offset, length), "little")


def damaged(path: Path, kind: str, reason: str) -> UnknownFormat:
    return UnknownFormat(
        f"{path} is {kind} that is damaged or cut short: {reason}",
        hint="download or save it again, and compare its size with the original's.",
        path=str(path),
    )


def unsupported(path: Path, what: str, hint: str) -> UnsupportedModel:
    """For what is well known and still no starting point."""
    return UnsupportedModel(f"{path} is {what}", hint=hint, path=str(path))


def unknown(path: Path, what: str, hint: str) -> UnknownFormat:
    """For what is no model, but can be named."""
    return UnknownFormat(f"{path} is {what}", hint=hint, path=str(path))


def listing(names: list[str], most: int = 6) -> str:
    """Some names for a message."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
