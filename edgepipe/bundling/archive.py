"""The file itself: a zip that is the same for the same contents, with a manifest of digests."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgepipe.artifact import PIECE, digest_file
from edgepipe.errors import PathError

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can say: no time of day may change the file."""
PACKED = {".tflite": zipfile.ZIP_STORED, ".enc": zipfile.ZIP_STORED, ".bin": zipfile.ZIP_STORED}
"""Weights hardly shrink, and a board has better things to do than to inflate them."""

Sign = Callable[[bytes], bytes]


def write(
    path: Path, manifest: Mapping[str, Any], members: Mapping[str, Path], sign: Sign | None
) -> dict[str, Any]:
    """Aside, then renamed; the manifest with the digests in it."""
    listed = {
        name: {"sha256": digest_file(file), "size": file.stat().st_size}
        for name, file in sorted(members.items())
    }
    whole = {**manifest, "files": listed}
    text = json.dumps(whole, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            _add(archive, MANIFEST, text)
            if sign is not None:
                _add(archive, SIGNATURE, sign(text))
            for name in listed:
                _copy(archive, name, members[name])
        partial.replace(path)
    except OSError as error:
        raise PathError(
            f"{path} can't be written: {error.strerror}", hint="name another file with -o."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return whole


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = PACKED.get(Path(name).suffix, zipfile.ZIP_DEFLATED)
    entry.create_system = 3  # As on Linux, wherever it is written.
    entry.external_attr = 0o644 << 16
    return entry


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(_entry(name), content)


def _copy(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    entry = _entry(name)
    entry.file_size = file.stat().st_size  # Above 2 GB the header must say so at once.
    with file.open("rb") as source, archive.open(entry, "w") as target:
        while piece := source.read(PIECE):
            target.write(piece)
