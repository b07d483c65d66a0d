"""Single samples of a validation: the worst ones with their pictures, and the confusion."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tflite_models import model_of
from validated_nets import MOVED, WEIGHTS, dense, labelled

import edgepipe
from edgepipe.artifact import Port
from edgepipe.data.preprocessing import Steps
from edgepipe.tflite import saving
from edgepipe.tflite.graph import Op, Tensor
from edgepipe.validation import confusion, picture
from edgepipe.validation.differing import class_of, difference
from edgepipe.validation.evaluating import Data, Evaluation

IMAGES = """
from pathlib import Path
from PIL import Image
for number in range(20):
    folder = Path("data") / ("bright" if number % 2 else "dark")
    folder.mkdir(parents=True, exist_ok=True)
    shade = (150 if number % 2 else 60) + number
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(folder / f"{number}.png")
"""


def decoded(uri: str) -> NDArray[np.uint8]:
    """The pixels of a PNG whose rows have filter 0, with every checksum looked at."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        (check,) = struct.unpack_from(">I", data, at + 8 + size)
        assert check == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + size
    width, height, depth, kind = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    channels = {0: 1, 2: 3, 6: 4}[kind]
    assert depth == 8
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8)
    rows = rows.reshape(height, 1 + width * channels)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, channels)


def drawn(array: NDArray[Any], steps: Steps | None = None) -> str:
    return picture.of(array, Port("x", array.shape, str(array.dtype)), steps or Steps())


def shown(array: NDArray[Any], steps: Steps | None = None) -> NDArray[np.uint8]:
    return decoded(drawn(array, steps))


def test_pixels_come_out_as_they_went_in() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.float32)
    assert np.array_equal(shown(pixels[None]), pixels)
    assert np.array_equal(shown(pixels.transpose(2, 0, 1)[None]), pixels)


def test_preprocessing_is_undone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.float32)
    steps = Steps(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    fed = (pixels / 255 - np.array(steps.mean)) / np.array(steps.std)
    assert np.array_equal(shown(fed[None].astype(np.float32), steps), pixels)
    turned = Steps(channels="BGR")
    assert np.array_equal(shown(pixels[None, :, :, ::-1], turned), pixels)


def test_sizes_are_those_of_a_page() -> None:
    small = shown(np.full((1, 8, 8, 1), 16.0, np.float32))
    assert small.shape == (64, 64, 1)
    large = shown(np.zeros((1, 500, 300, 3), np.float32))
    assert max(large.shape) <= 128


def test_numbers_that_are_no_pixels_use_all_shades() -> None:
    found = shown(np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(1, 64, 64, 1))
    assert (found.min(), found.max()) == (0, 255)
    assert shown(np.full((1, 64, 64, 3), np.nan, np.float32)).shape == (64, 64, 3)


def test_signal_is_drawn_on_nothing() -> None:
    found = shown(np.sin(np.arange(400, dtype=np.float32))[None])
    assert found.shape == (72, 240, 4)
    assert 0 < (found[:, :, 3] == 255).mean() < 1
    rising = shown(np.arange(100, dtype=np.float32).reshape(1, 100, 1))
    inked = [np.flatnonzero(rising[:, column, 3]) for column in range(240)]
    assert all(len(rows) for rows in inked)
    assert inked[0].min() > inked[-1].max(), "what rises ends above where it began"


def test_features_are_no_picture() -> None:
    assert drawn(np.zeros((1, 6), np.float32)) == ""


@pytest.mark.toolchain("edge")
def test_worst_samples_are_those_that_became_another_class(
    tmp_path: Path, fresh_store: Path
) -> None:
    data = labelled(tmp_path, 90)
    found = edgepipe.validate(
        dense(tmp_path, "other.tflite", 0.2),
        against=dense(tmp_path, "float.tflite"),
        data=data,
        out=tmp_path / "out",
    )
    with np.load(data) as file:
        x, labels = file["x"], file["labels"]
    wanted, received = x @ WEIGHTS.T, x @ MOVED.astype(np.float32).T
    flipped = np.flatnonzero(wanted.argmax(1) != received.argmax(1))
    apart = np.sqrt(((wanted - received) ** 2).sum(1) / (wanted**2).sum(1).mean())
    worst = found.validation.worst
    assert len(worst) == 8
    count = min(8, len(flipped))
    order = flipped[np.argsort(-apart[flipped])]
    assert [one.index for one in worst[:count]] == order[:count].tolist()
    first = worst[0]
    assert first.error == pytest.approx(apart[first.index], rel=1e-3)
    assert first.candidate.split()[0] == str(received[first.index].argmax())
    assert first.baseline.split()[0] == str(wanted[first.index].argmax())
    assert first.truth == str(labels[first.index])
    (table,) = found.validation.confusion
    assert np.array(table.candidate).sum() == 90
    for sample, label in zip(received.argmax(1), labels, strict=True):
        assert table.candidate[label][sample] > 0
    assert np.trace(np.array(table.baseline)) == 81


@pytest.mark.toolchain("edge")
def test_worst_images_are_shown_with_the_names_of_their_classes(
    tmp_path: Path, fresh_store: Path, build: Callable[[str, str], Path]
) -> None:
    """A folder of images, which only a worker can read; the class is whether it is bright."""
    images = build("edge", IMAGES) / "data"
    for name, limit in (("float.tflite", 110.0), ("other.tflite", 170.0)):
        x, mean, scores = Tensor("x", (1, 8, 8, 3)), Tensor("m", (1, 3)), Tensor("s", (1, 2))
        axes = Tensor.constant("a", np.array([1, 2], np.int32), "int32")
        kernel = Tensor.constant("w", np.array([[1, 0, 0], [0, 0, 0]], np.float32), "float32")
        bias = Tensor.constant("b", np.array([0, limit], np.float32), "float32")
        ops = [
            Op.make("MEAN", [x, axes], [mean], keep_dims=False),
            Op.make("FULLY_CONNECTED", [mean, kernel, bias], [scores]),
        ]
        saving.save(model_of(ops, [x], [scores]), tmp_path / name)
    found = edgepipe.validate(
        tmp_path / "other.tflite",
        against=tmp_path / "float.tflite",
        data=images,
        out=tmp_path / "out",
        worst=3,
    )
    worst = found.validation.worst
    assert len(worst) == 3
    assert all(one.truth == "bright" and one.name.startswith("bright/") for one in worst)
    assert all(one.picture for one in worst)
    pixels = decoded(worst[0].picture)
    number = int(worst[0].name.removeprefix("bright/").removesuffix(".png"))
    assert (pixels == 150 + number).all()
    assert found.validation.confusion[0].names == ("bright", "dark")


def test_confusion_of_many_classes_is_not_written() -> None:
    rows = np.array([[0, 1, 3, 3, 500]], float)
    found = Evaluation([0], {"own/y": [rows]})
    data = Data(1, (500,), ())
    ports = (Port("y", (1, 1000), "float32"),)
    assert confusion.tables(ports, data, found, True) == (
        (),
        "a table of 1,000 classes is more than anyone reads",
    )


def test_classes_are_told_of_scores_and_of_whole_numbers() -> None:
    assert class_of(np.array([[0.1, 0.7, 0.2]])) == 1
    assert class_of(np.array([4])) == 4
    assert class_of(np.array([[0.1, np.nan]])) == -1
    assert class_of(np.zeros((1, 4, 4))) == -1
    row = difference(np.array([[1.0, np.inf]]), np.array([[1.0, np.inf]]), 1)
    assert row[0] == 0
