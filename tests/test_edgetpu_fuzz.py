"""Damaged int8 models end in a clear error of preflight and estimate, or are told about."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from legalise_cases import CASES

from edgepipe.errors import EdgepipeError
from edgepipe.targets.edgetpu.estimating import estimate
from edgepipe.targets.edgetpu.preflight import preflight
from edgepipe.tflite import saving

COUNT = int(os.environ.get("FUZZ", "300"))


def test_damaged_models_are_refused_or_foretold(tmp_path: Path) -> None:
    rng, refused, path = random.Random(7), 0, tmp_path / "model.tflite"
    bases = []
    for case in CASES:
        saving.save(case.build(), path)
        bases.append(path.read_bytes())
    for number in range(COUNT):
        bad = bytearray(bases[number % len(bases)])
        for _ in range(rng.randint(1, 6)):
            bad[rng.randrange(len(bad))] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
        path.write_bytes(bad)
        for ask in (preflight, estimate):
            try:
                ask(path).to_json()
            except EdgepipeError as error:
                assert error.message
                refused += 1
            except Exception as error:
                pytest.fail(f"number {number}: {ask.__name__}: {error!r} from {bad.hex()}")
    assert 0 < refused < 2 * COUNT
