"""Each kind of data as a model is fed with it, and what is said where it can't be."""

from __future__ import annotations

import os
import re
import struct
import wave
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgepipe import given_data
from edgepipe.artifact import Port, Signature
from edgepipe.data.survey import Survey
from edgepipe.dataset import DataSource
from edgepipe.errors import SamplesError, TrustRequired, UserCodeError
from edgepipe.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

NCHW = Port("image", (1, 3, 8, 8), "float32")
NHWC = Port("image", (1, 8, 8, 3), "float32")
edge = pytest.mark.toolchain("edge")
Read = Callable[..., "list[Tensors]"]


def signature(*ports: Port) -> Signature:
    return Signature(ports, ())


def source(where: Path | str, table: dict[str, Any] | None = None, **settings: Any) -> DataSource:
    return DataSource.of(where, table, **settings)


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """An RGB image by hand (https://www.w3.org/TR/png-3): nothing is compared with itself."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def pixels(height: int = 8, width: int = 8, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def read(session: Session) -> Read:
    def run(data: DataSource, *ports: Port) -> list[Tensors]:
        return given_data.samples(session, data, signature(*ports))

    return run


@pytest.fixture
def look(session: Session) -> Callable[..., Survey]:
    return lambda data, *ports: given_data.look(session, data, signature(*ports))


# Images


@edge
def test_image_is_fed_in_the_layout_of_the_model(tmp_path: Path, read: Read) -> None:
    image = pixels()
    write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(read(source(tmp_path), NHWC)[0]["image"][0], image)
    (moved,) = read(source(tmp_path / "a.png"), NCHW)
    np.testing.assert_array_equal(moved["image"][0], image.transpose(2, 0, 1))
    assert moved["image"].dtype == np.float32


@edge
def test_channels_and_numbers_are_as_the_steps_say(tmp_path: Path, read: Read) -> None:
    image = pixels()
    write_png(tmp_path / "a.png", image)
    mean = [103.939, 116.779, 123.68]
    table = {"channels": "BGR", "mean": mean}
    (fed,) = read(source(tmp_path, table), NHWC)
    expected = image[:, :, ::-1].astype(np.float32) - np.array(mean, np.float32)
    np.testing.assert_allclose(fed["image"][0], expected, atol=1e-4)
    (grey,) = read(source(tmp_path), Port("image", (1, 8, 8), "uint8"))
    luma = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey["image"][0] - luma).max() <= 1


@edge
def test_crops_keep_the_middle(tmp_path: Path, read: Read) -> None:
    image = pixels(8, 14)
    write_png(tmp_path / "a.png", image)
    for crop in ("center", "short-side"):
        (fed,) = read(source(tmp_path, {"crop": crop}), NHWC)
        np.testing.assert_array_equal(fed["image"][0], image[:, 3:11])
    (squeezed,) = read(source(tmp_path), NHWC)
    assert not np.array_equal(squeezed["image"][0], image[:, 3:11])


@edge
@pytest.mark.parametrize("factor", [2, 3])
def test_area_is_the_mean_and_bilinear_without_antialias_is_not(
    tmp_path: Path, read: Read, factor: int
) -> None:
    image = pixels(8 * factor, 8 * factor)
    write_png(tmp_path / "a.png", image)
    means = image.reshape(8, factor, 8, factor, 3).mean(axis=(1, 3))
    (area,) = read(source(tmp_path, {"resize": "area"}), NHWC)
    assert np.abs(area["image"][0] - means).max() <= 1
    table = {"resize": "bilinear", "antialias": False}
    (sharp,) = read(source(tmp_path, table), NHWC)
    if factor == 3:  # The middle of 3x3 pixels is one of them.
        np.testing.assert_array_equal(sharp["image"][0], image[1::3, 1::3])
    else:  # Between the middle four.
        assert np.abs(sharp["image"][0] - means).max() <= 1


@edge
def test_folders_are_labels_and_numbers_stay_numbers(tmp_path: Path, look: Any) -> None:
    for place, name in enumerate(["10", "9", "9", "2"]):
        write_png(tmp_path / name / f"{place}.png", pixels(seed=place))
    assert look(source(tmp_path), NHWC).labels == {"2": 1, "9": 2, "10": 1}
    data = source(tmp_path).open(signature(NHWC))
    assert data.labels == [10, 2, 9, 9]


def test_class_names_give_the_numbers_of_the_model(tmp_path: Path) -> None:
    for name in ("dog", "ant"):
        write_png(tmp_path / "d" / name / "a.png", pixels())
    names = tmp_path / "classes.txt"
    names.write_text("ant\nbee\ncat\ndog\n")
    assert source(tmp_path / "d", labels=str(names)).open(signature(NHWC)).labels == [0, 3]
    names.write_text("ant\nbee\n")
    with pytest.raises(SamplesError, match="1 labels are not in the list of 2 names: 'dog'"):
        assert source(tmp_path / "d", labels=str(names)).open(signature(NHWC)).labels


def test_file_of_labels_must_match_the_files(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_png(tmp_path / "d" / name, pixels())
    table = tmp_path / "labels.csv"
    table.write_text("file,label\na.png,dog\nb,cat\n")
    data = source(tmp_path / "d", labels=str(table)).open(signature(NHWC))
    assert (data.labels, list(data.label_names)) == ([1, 0], ["cat", "dog"])
    table.write_text("a.png,1\nc.png,2\n")
    message = "1 of 2 files have no label .'b.png'.; 1 labels belong to no file .'c.png'."
    with pytest.raises(SamplesError, match=message):
        assert source(tmp_path / "d", labels=str(table)).open(signature(NHWC)).labels


def test_files_beside_labelled_folders_are_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", pixels())
    write_png(tmp_path / "dog" / "b.png", pixels())
    with pytest.raises(SamplesError, match="1 files lie beside the folders"):
        assert source(tmp_path).open(signature(NHWC)).labels


@edge
def test_broken_images_are_counted_and_named_up_to_a_limit(tmp_path: Path, look: Any) -> None:
    for number in range(20):
        write_png(tmp_path / f"{number:02}.png", pixels(seed=number))
    whole = (tmp_path / "03.png").read_bytes()
    (tmp_path / "03.png").write_bytes(whole[: len(whole) // 2])
    found = look(source(tmp_path), NHWC)
    assert found.samples == 19
    assert [text.partition(" ")[0] for text in found.problems] == ["03.png"]
    (tmp_path / "04.png").write_bytes(b"no image")
    with pytest.raises(SamplesError, match="2 of 20 samples can't be read") as caught:
        look(source(tmp_path), NHWC)
    assert caught.value.details["unreadable"] == ["03.png", "04.png"]


@edge
def test_folder_of_only_broken_images_is_an_error(tmp_path: Path, look: Any) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(SamplesError, match="1 of 1 samples can't be read"):
        look(source(tmp_path), NHWC)


@edge
def test_pixels_that_nobody_scaled_are_warned_of(tmp_path: Path, look: Any) -> None:
    for number in range(2):
        write_png(tmp_path / f"{number}.png", pixels(seed=number))
    (warning,) = look(source(tmp_path), NHWC).warnings
    assert "as 0 to 255" in warning
    table = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (warning,) = look(source(tmp_path, table), NHWC).warnings
    assert "--scale 1/255" in warning
    assert look(source(tmp_path, {**table, "scale": 1 / 255}), NHWC).warnings == []


@edge
def test_image_for_an_input_that_takes_none_is_refused(tmp_path: Path, look: Any) -> None:
    write_png(tmp_path / "a.png", pixels())
    with pytest.raises(SamplesError, match="'x' is 1x10: no image fits it"):
        look(source(tmp_path), Port("x", (1, 10), "float32"))


@edge
def test_each_of_several_inputs_has_its_folder(tmp_path: Path, read: Read) -> None:
    left, right = pixels(seed=1), pixels(seed=2)
    write_png(tmp_path / "left" / "a.png", left)
    write_png(tmp_path / "right" / "a.png", right)
    ports = (Port("left", (1, 8, 8, 3), "uint8"), Port("right", (1, 8, 8, 3), "uint8"))
    (fed,) = read(source(tmp_path), *ports)
    np.testing.assert_array_equal(fed["left"][0], left)
    np.testing.assert_array_equal(fed["right"][0], right)
    write_png(tmp_path / "left" / "b.png", left)
    with pytest.raises(SamplesError, match="not there for every input, for instance 'b'"):
        read(source(tmp_path), *ports)


def test_key_of_a_folder_follows_what_is_chosen_of_it(tmp_path: Path) -> None:
    for number in range(6):
        write_png(tmp_path / f"{number}.png", pixels(seed=number))

    def key() -> str:
        return source(tmp_path, limit=3).key(signature(NHWC))

    before = key()
    chosen = {int(s) for s in source(tmp_path, limit=3).open(signature(NHWC)).indices}
    (other,) = [n for n in range(6) if n not in chosen][:1]
    write_png(tmp_path / f"{other}.png", pixels(seed=77))
    assert key() == before
    write_png(tmp_path / f"{min(chosen)}.png", pixels(seed=78))
    assert key() != before


# Folders


@pytest.mark.parametrize("names", [[], ["readme.txt"], [".hidden.png"]])
def test_folder_without_samples_is_said(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("x")
    with pytest.raises(SamplesError, match="no samples at"):
        source(tmp_path).open(signature(NHWC))


def test_folder_of_two_kinds_is_refused(tmp_path: Path) -> None:
    for name in ("a.png", "b.wav"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SamplesError, match="several kinds of samples: 1 images, 1 sounds"):
        source(tmp_path).open(signature(NHWC))


def test_folder_of_arrays_has_one_sample_in_each(tmp_path: Path, read: Read) -> None:
    for number in range(3):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        np.save(tmp_path / str(number % 2) / f"{number}.npy", np.full((8, 8, 3), float(number)))
    fed = read(source(tmp_path), NHWC)
    assert [one["image"].flat[0] for one in fed] == [0, 2, 1]
    assert source(tmp_path).open(signature(NHWC)).labels == [0, 0, 1]


# Tables


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_columns_are_the_input_and_one_is_the_label(tmp_path: Path, read: Read) -> None:
    table = write(tmp_path / "t.csv", "a,b,label\n1,2,x\n3,4.5,y\n5,6,x\n")
    port = Port("in", (1, 2), "float32")
    assert [one["in"].tolist() for one in read(source(table), port)] == [
        [[1, 2]], [[3, 4.5]], [[5, 6]],
    ]  # fmt: skip
    assert source(table).open(signature(port)).labels == [0, 1, 0]
    (first, *_) = read(source(table, columns=("b", "a")), port)
    assert first["in"].tolist() == [[2, 1]]


def test_columns_of_several_inputs_go_by_name(tmp_path: Path, read: Read) -> None:
    table = write(tmp_path / "t.csv", "y,x_1,x_0,ids\n0,2,1,7\n1,4,3,8\n")
    ports = (Port("x", (1, 2), "float32"), Port("ids", (1, 1), "int32"))
    (first, _) = read(source(table), *ports)
    assert (first["x"].tolist(), first["ids"].tolist()) == ([[1, 2]], [[7]])


def test_table_without_heading_is_all_numbers(tmp_path: Path, read: Read) -> None:
    table = write(tmp_path / "t.csv", "1,2\n3,4\n")
    assert len(read(source(table), Port("in", (1, 2), "float32"))) == 2


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("a,b\n1,2\n", {}, "2 columns for samples; 'in' .1x3. takes 3"),
        ("a,b,c\n1,2\n", {}, "row 1: 2 cells, expected 3"),
        ("a,b,c\n1,2,\n", {}, "'c' is '', expected a number"),
        ("a,b,c\n1,2,nan\n", {}, "holds NaN"),
        ("a,b,c\n", {}, "holds no sample"),
        ("", {}, "holds no sample"),
        ("a,b,c\n1,2,3\n", {"labels": "d"}, "no column 'd' for the labels"),
        ("a,b,c,d\n1,2,3,\n", {"labels": "d"}, "1 of 1 rows have no label"),
        ("a,a,c\n1,2,3\n", {}, "two columns have the same name"),
    ],
)
def test_table_that_does_not_fit_is_refused(
    tmp_path: Path, read: Read, text: str, settings: Any, words: str
) -> None:
    table = write(tmp_path / "t.csv", text)
    with pytest.raises(SamplesError, match=words):
        read(source(table, **settings), Port("in", (1, 3), "float32"))


# Sound


def write_wav(path: Path, values: NDArray[Any], rate: int = 16_000, width: int = 2) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(values.shape[1] if values.ndim == 2 else 1)
        file.setsampwidth(width)
        file.setframerate(rate)
        whole = np.round(values * (2 ** (8 * width - 1) - 1)).astype(np.int64)
        if width == 1:
            whole = whole + 128
        raw = whole.astype("<i8").tobytes()
        file.writeframes(b"".join(raw[at : at + width] for at in range(0, len(raw), 8)))


def tone(length: int, rate: int = 16_000, pitch: float = 440) -> NDArray[Any]:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(length) / rate)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_recordings_become_numbers_below_one(tmp_path: Path, read: Read, width: int) -> None:
    write_wav(tmp_path / "a.wav", tone(400), width=width)
    (fed,) = read(source(tmp_path), Port("x", (1, 400), "float32"))
    np.testing.assert_allclose(fed["x"][0], tone(400), atol=2.0 / 2 ** (8 * min(width, 3) - 1))


def test_stereo_is_mixed_or_kept_as_the_model_takes_it(tmp_path: Path, read: Read) -> None:
    both = np.stack([tone(400), np.zeros(400)], axis=1)
    write_wav(tmp_path / "a.wav", both)
    (mono,) = read(source(tmp_path), Port("x", (1, 400, 1), "float32"))
    np.testing.assert_allclose(mono["x"][0, :, 0], tone(400) / 2, atol=1e-4)
    (stereo,) = read(source(tmp_path), Port("x", (1, 2, 400), "float32"))
    np.testing.assert_allclose(stereo["x"][0], both.T, atol=1e-4)


def test_rate_and_length_are_changed_only_when_asked(tmp_path: Path, read: Read) -> None:
    write_wav(tmp_path / "a.wav", tone(800, 8000), rate=8000)
    port = Port("x", (1, 1600), "float32")
    with pytest.raises(SamplesError, match="8000 samples a second, expected 16000"):
        read(source(tmp_path, {"rate": 16_000}), port)
    with pytest.raises(SamplesError, match="800 samples long, the model takes 1600"):
        read(source(tmp_path), port)
    (fed,) = read(source(tmp_path, {"rate": 16_000, "resample": True}), port)
    np.testing.assert_allclose(fed["x"][0], tone(1600), atol=1e-3)
    (padded,) = read(source(tmp_path, {"fit": True}), port)
    assert (padded["x"][0, :400] == 0).all()
    np.testing.assert_allclose(padded["x"][0, 400:1200], tone(800, 8000), atol=1e-3)


def test_recordings_of_unlike_rates_are_refused(tmp_path: Path, read: Read) -> None:
    write_wav(tmp_path / "a.wav", tone(100))
    write_wav(tmp_path / "b.wav", tone(100), rate=8000)
    with pytest.raises(SamplesError, match=r"b\.wav has 8000 samples a second, expected 16000"):
        read(source(tmp_path), Port("x", (1, 100), "float32"))


def test_truncated_recording_is_counted(tmp_path: Path, look: Any) -> None:
    for name in "abc":
        write_wav(tmp_path / f"{name}.wav", tone(100))
    (tmp_path / "b.wav").write_bytes((tmp_path / "b.wav").read_bytes()[:100])
    found = look(source(tmp_path), Port("x", (1, 100), "float32"))
    assert found.samples == 2
    assert found.problems[0].startswith("b.wav can't be read")


# Functions

CODE = """
import numpy as np

def pairs():
    for number in range(10):
        yield {"x": np.full((1, 4), number, np.float32)}, number % 2

def plain():
    return ({"x": np.full(4, number, np.float32)} for number in range(5))

def endless():
    while True:
        yield {"x": np.ones((1, 4), np.float32)}

def wrong():
    yield {"y": np.ones((1, 4), np.float32)}

def no_dictionary():
    yield np.ones((1, 4), np.float32)

def raises():
    yield {"x": np.ones((1, 4), np.float32)}
    raise KeyError("my own mistake")
"""
VECTOR = Port("x", (1, 4), "float32")


@pytest.fixture
def function(tmp_path: Path) -> Callable[..., DataSource]:
    (tmp_path / "my_data.py").write_text(CODE)

    def made(name: str, **settings: Any) -> DataSource:
        settings = {"trust": True, **settings}
        return source(f"my_data:{name}", python_path=(str(tmp_path),), **settings)

    return made


@edge
def test_function_yields_samples_with_labels(function: Any, read: Read, look: Any) -> None:
    assert [one["x"].flat[0] for one in read(function("pairs"), VECTOR)] == list(range(10))
    assert look(function("pairs", limit=4), VECTOR).labels == {"0": 2, "1": 2}
    assert len(read(function("plain"), VECTOR)) == 5
    assert len(read(function("endless", limit=3), VECTOR)) == 3
    assert len(read(function("pairs").split(0.3)[1], VECTOR)) == 3


@edge
@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("wrong", SamplesError, r"sample 0: received \['y'\], the model's inputs are \['x'\]"),
        ("no_dictionary", SamplesError, "yields ndarray as sample 0, expected a dictionary"),
        ("raises", UserCodeError, "my own mistake"),
        ("absent", UserCodeError, "has no function 'absent'"),
    ],
)
def test_function_that_does_not_fit_is_told(
    function: Any, read: Read, name: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        read(function(name), VECTOR)


@edge
def test_function_without_end_asks_for_a_limit(function: Any, read: Read) -> None:
    with pytest.raises(SamplesError, match="yields more than 100,000 samples") as caught:
        read(function("endless"), VECTOR)
    assert "--limit" in caught.value.hint


def test_code_is_run_only_with_trust_and_counts_for_the_key(tmp_path: Path, function: Any) -> None:
    with pytest.raises(TrustRequired, match="my_data:pairs is code"):
        function("pairs", trust=False).key(signature(VECTOR))
    before = function("pairs").key(signature(VECTOR))
    (tmp_path / "my_data.py").write_text(re.sub("range.10.", "range(11)", CODE))
    assert function("pairs").key(signature(VECTOR)) != before


# What looks wrong


def test_bytes_that_nobody_scaled_are_warned_of(tmp_path: Path, look: Any) -> None:
    np.save(tmp_path / "x.npy", np.stack([pixels(seed=1), pixels(seed=2)]))
    (warning,) = look(source(tmp_path / "x.npy"), NHWC).warnings
    assert "as 0 to 255" in warning
    assert look(source(tmp_path / "x.npy", {"scale": 1 / 255}), NHWC).warnings == []
    assert look(source(tmp_path / "x.npy"), Port("image", (1, 8, 8, 3), "uint8")).warnings == []


def test_file_of_labels_belongs_to_files(tmp_path: Path, look: Any) -> None:
    np.savez(tmp_path / "x.npz", image=np.random.default_rng(0).random((2, 8, 8, 3)))
    for name, words in (("l.csv", "can't label"), ("l.txt", "holds no labels for the classes")):
        (tmp_path / name).write_text("a\nb\n")
        with pytest.raises(SamplesError, match=words):
            look(source(tmp_path / "x.npz", labels=str(tmp_path / name)), NHWC)


def test_constant_and_equal_samples_are_warned_of(tmp_path: Path, look: Any) -> None:
    values = np.random.default_rng(0).random((5, 8, 8, 3))
    values[2] = 0.5
    np.save(tmp_path / "x.npy", values)
    (warning,) = look(source(tmp_path / "x.npy"), NHWC).warnings
    assert "1 of 5 samples hold a single value each (sample 2)" in warning
    np.save(tmp_path / "x.npy", np.broadcast_to(values[:1], (5, 8, 8, 3)))
    (warning,) = look(source(tmp_path / "x.npy"), NHWC).warnings
    assert "all 5 samples are the same" in warning


def test_survey_tells_the_range_that_is_fed(tmp_path: Path, look: Any) -> None:
    values = np.random.default_rng(0).normal(3, 2, (50, 8, 8, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    (found,) = look(source(tmp_path / "x.npy", {"scale": 2.0}), NHWC).inputs
    for name in ("min", "max", "mean", "std"):
        assert found[name] == pytest.approx(float(getattr(2 * values, name)()), rel=1e-4)


def test_place_that_is_none_names_what_could_be(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match="no samples at") as caught:
        source(tmp_path / "nothing").open(signature(NHWC))
    assert "folder of images" in caught.value.hint
    assert os.fspath(tmp_path) in caught.value.message
