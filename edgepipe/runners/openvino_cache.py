"""Where OpenVINO keeps what a device made of a model, and how much of it stays."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edgepipe.settings import cache_root

MOST = 2 << 30
"""Bytes; OpenVINO itself never takes anything away."""


def folder() -> Path:
    """In edgepipe's cache; made, and rid of what was not used for longest."""
    found = cache_root() / "openvino"
    found.mkdir(parents=True, exist_ok=True)
    sweep(found, MOST)
    return found


def sweep(folder: Path, most: int) -> None:
    """Another process may sweep, or write, at the same time."""
    files = []
    for path in folder.glob("*.blob"):
        with contextlib.suppress(OSError):
            status = path.stat()
            files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    taken = 0
    for _, size, path in sorted(files, reverse=True):
        taken += size
        if taken > most:
            with contextlib.suppress(OSError):
                path.unlink()
