"""Descriptors that a program reads its input from: a part of a file, or a few bytes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def of_file(file: Path, start: int, size: int) -> Iterator[int]:
    """A descriptor that gives this much of a file and then ends."""
    reading, writing = os.pipe()

    def feed() -> None:
        left = size
        with (
            contextlib.suppress(BrokenPipeError),
            os.fdopen(writing, "wb") as pipe,
            file.open("rb") as source,
        ):
            source.seek(start)
            while left and (block := source.read(min(left, 1 << 16))):
                pipe.write(block)
                left -= len(block)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        os.close(reading)
        thread.join()


@contextlib.contextmanager
def of_bytes(content: bytes) -> Iterator[int]:
    """A descriptor that gives these few bytes, which lie in no file."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    try:
        yield reading
    finally:
        os.close(reading)
