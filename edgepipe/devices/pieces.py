"""Files as pieces with digests, so that of a bundle only the members that changed go over."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

SMALL = 256 << 10
"""Bytes; members below it go together, since each piece costs a question or two."""
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Piece:
    """A range of a file here, by what is in it."""

    file: Path
    start: int
    size: int
    sha256: str

    @staticmethod
    def of(file: Path, start: int, size: int) -> Piece:
        found = hashlib.sha256()
        with file.open("rb") as stream:
            stream.seek(start)
            left = size
            while left and (block := stream.read(min(left, _BLOCK))):
                found.update(block)
                left -= len(block)
        return Piece(file, start, size, found.hexdigest())


def cut(file: Path) -> list[Piece]:
    """The file itself, or a zip cut where its members begin: one after the other, they are it."""
    size = file.stat().st_size
    edges = [0]
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            starts = sorted(info.header_offset for info in archive.infolist())
            starts.append(archive.start_dir)
        for start in starts:
            if start - edges[-1] >= SMALL:
                edges.append(start)
    return [
        Piece.of(file, start, end - start)
        for start, end in zip(edges, [*edges[1:], size], strict=True)
    ]
