"""Validation documents with every part filled, as the measuring side writes them, for the tests."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepipe.validation.evidence import (
    Confusion,
    Energy,
    Gate,
    Interval,
    Latency,
    Memory,
    Placement,
    Score,
    Timing,
    Validation,
    Verdict,
    Worst,
)

DIGITS = Path(__file__).parent.parent / "examples" / "digits_keras" / "held_out.npz"


def picture(pixels: Any) -> str:
    """A grey PNG as a data URI."""
    rows = b"".join(b"\0" + bytes(row) for row in np.asarray(pixels, np.uint8))

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checked)

    height, width = np.shape(pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    return f"data:image/png;base64,{base64.b64encode(png + chunk(b'IEND', b'')).decode()}"


def timing(middle: float, seed: int, count: int = 600) -> Timing:
    random = np.random.default_rng(seed)
    times = middle * (0.92 + random.gamma(2.0, 0.04, count))
    p50, p90, p95, p99 = np.percentile(times, (50, 90, 95, 99))
    return Timing(
        float(p50), float(p90), float(p95), float(p99), float(times.mean()), count,
        load=middle * 9, cold=middle * 3, times=tuple(map(float, times)),
        throughput=({"threads": 1, "batch": 1, "per_second": 1 / middle},
                    {"threads": 2, "batch": 1, "per_second": 1.7 / middle}),
    )  # fmt: skip


def validation(verdict: Verdict = Verdict.PASSED) -> Validation:
    """On the digits of the examples; the gate on the accuracy has this verdict."""
    random = np.random.default_rng(0)
    counts = np.diag(random.integers(28, 38, 10))
    counts[8, 1], counts[9, 3], counts[3, 5] = 4, 2, 1
    names = tuple(map(str, range(10)))
    matrix = tuple(tuple(map(int, row)) for row in counts)
    before = counts.copy()
    before[8, 1], before[8, 8] = 1, before[8, 8] + 3
    images = np.load(DIGITS)["image"]
    scaled = [image[..., 0] / max(float(image.max()), 1e-9) * 255 for image in images[:6]]
    floats = tuple(tuple(map(int, row)) for row in before)
    words = {
        Verdict.PASSED: "top1 drops by 0.28 points (0.0 to 0.83), the limit is 1 point.",
        Verdict.FAILED: "top1 drops by 1.9 points (1.2 to 2.7), the limit is 1 point.",
        Verdict.UNDECIDED: "top1 drops by 0.9 points (0.1 to 1.7), the limit is 1 point: not "
        "enough samples to tell, 840 more are needed.",
    }
    drop = {Verdict.PASSED: (-0.28, -0.83, 0.0), Verdict.FAILED: (-1.9, -2.7, -1.2),
            Verdict.UNDECIDED: (-0.9, -1.7, -0.1)}[verdict]  # fmt: skip
    more = 840 if verdict is Verdict.UNDECIDED else None
    return Validation(
        candidate={"file": "model_int8.tflite", "sha256": "ab" * 32, "size": 20336,
                   "runner": "LiteRT", "device": "cpu", "threads": 1},
        baseline={"file": "digits.h5", "sha256": "cd" * 32, "runner": "Keras", "device": "cpu"},
        data={"where": "held_out.npz", "samples": 360, "digest": "ef" * 32, "seconds": 1.2},
        scores=(
            Score("top1", "digit", "%", True, 360, Interval(99.17, 97.9, 99.8),
                  Interval(99.44, 98.2, 99.9), Interval(*drop), 0.31, "McNemar, exact"),
            Score("agreement", "digit", "%", True, 360, Interval(99.7, 98.5, 100.0)),
        ),
        confusion=(Confusion("digit", names, matrix, floats),),
        latency=Latency(timing(0.0021, 1), timing(0.0034, 2), Interval(0.61, 0.58, 0.66),
                        {"governor": "performance", "threads": 1, "load": 0.4}),
        memory=Memory(4 << 20, 12 << 10, 190 << 20),
        energy=Energy("RAPL package-0", Interval(0.0211, 0.0201, 0.0222),
                      Interval(0.0402, 0.039, 0.0415)),
        placement=Placement("XNNPACK", 7, 8, tuple(
            {"op": "CONV_2D" if at < 7 else "SOFTMAX", "name": f"layer_{at}",
             "device": "XNNPACK" if at < 7 else "CPU", "seconds": 1e-4 * (at + 1)}
            for at in range(8))),
        gates=(
            Gate("max-drop", "1 point", "0.28 points", verdict, words[verdict], more),
            Gate("max-latency-ratio", "0.9", "0.61 (0.58 to 0.66)", Verdict.PASSED,
                 "int8 takes 0.61 of float's time (0.58 to 0.66), the limit is 0.9."),
        ),
        worst=tuple(
            Worst(17 * at + 3, f"image {17 * at + 3}", 0.9 - at / 9, "8 (0.52)", "1 (0.91)", "1",
                  picture(pixels)) for at, pixels in enumerate(scaled)
        ),
        notes=("XNNPACK was on for both sides.",),
        seconds=14.2,
    )  # fmt: skip


def hostile(word: str) -> Validation:
    """The same, with this word wherever a model, a file or a label has a name."""
    found = validation(Verdict.FAILED)
    return replace(
        found,
        candidate={**found.candidate, "file": word},
        scores=tuple(replace(one, metric=word, output=word, test=word) for one in found.scores),
        confusion=tuple(replace(one, output=word, names=(word,) * 10) for one in found.confusion),
        gates=tuple(replace(one, words=word, limit=word) for one in found.gates),
        worst=tuple(
            replace(one, name=word, candidate=word, baseline=word, truth=word, picture=word)
            for one in found.worst
        ),
        notes=(word,),
        absent={"energy": word},
    )
