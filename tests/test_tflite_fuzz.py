"""Damaged TFLite files end in a clear error or load; `make fuzz` tries 10,000, FUZZ=N as many."""

from __future__ import annotations

import os
import random
import time

import pytest
from tflite_models import conv, dense

from edgepipe.errors import UnknownFormat, UnsupportedModel
from edgepipe.tflite import loading, saving
from edgepipe.tflite.fold import fold

COUNT = int(os.environ.get("FUZZ", "300"))
SECONDS = 2.0
"""The longest that one small file may take, damaged in whatever way."""


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, offsets sent elsewhere, pieces cut out, doubled or moved."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(found))
        kind = rng.randrange(6)
        if kind == 0:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"])
        elif kind == 2:
            found[at : at + 4] = rng.randrange(2 * len(found)).to_bytes(4, "little")
        elif kind == 3:
            found[at : at + rng.randrange(40)] = b""
        elif kind == 4:
            found[at : at + 16] = found[rng.randrange(len(found)) :][:16]
        else:
            del found[max(at, 16) :]
        if len(found) < 16:
            return bytes(found)
    return bytes(found)


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_damaged_files_are_refused_or_read(name: str) -> None:
    data = saving.to_bytes({"dense": dense, "conv": conv}[name]())
    rng, refused = random.Random(name), 0
    for number in range(COUNT // 2):
        bad = damaged(data, rng)
        start = time.monotonic()
        try:
            model = loading.parse(bad)
            for graph in model.graphs:
                fold(graph)
            loading.parse(saving.to_bytes(model))
        except (UnknownFormat, UnsupportedModel) as error:
            assert error.message
            refused += 1
        except Exception as error:
            pytest.fail(f"number {number}: {error!r} from {bad.hex()}")
        assert time.monotonic() - start < SECONDS, f"number {number}: {bad.hex()}"
    assert COUNT // 10 < refused < COUNT // 2
