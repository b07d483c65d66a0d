"""`edgepipe data` and the flags of data in `convert`, with a real model and real files."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepipe
from edgepipe import layers
from edgepipe.errors import OptionError, SamplesError, ToolchainMissing, UnknownName

DIGITS = Path(__file__).parents[1] / "examples" / "digits_keras" / "digits.h5"
ARRAYS = Path(__file__).parents[1] / "examples" / "digits.npz"
MODEL = ("keras", "onnx2tf", "edge")
INPUT = "image=1x8x8x1:float32"


@pytest.fixture(autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPIPE_STORE", str(tmp_path_factory.getbasetemp() / "data-store"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's folder, with ten grey digits of 8x8 as PNG files below their labels."""
    monkeypatch.chdir(tmp_path)
    with np.load(ARRAYS) as file:
        images, labels = file["images"][:40], file["labels"][:40]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "photos" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(grey_png(np.rint(image.reshape(8, 8) * (255.0 / images.max()))))
    return tmp_path


def grey_png(pixels: Any) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgepipe", *arguments], capture_output=True, text=True
    )


@pytest.mark.toolchain("edge")
def test_shows_what_would_be_fed(folder: Path) -> None:
    done = run("data", "photos", "--input", INPUT, "--scale", "1/255")
    assert done.returncode == 0, done.stderr
    assert "40 samples" in done.stdout
    assert "input   image 1x8x8x1 float32: 0 to 1," in done.stdout
    assert "labels  10 (0: " in done.stdout
    assert "warning" not in done.stdout
    shown = run("data", "photos", "--input", INPUT, "--limit", "20", "--json")
    found = json.loads(shown.stdout)
    assert (found["samples"], found["available"]) == (20, 40)
    assert sum(found["labels"].values()) == 20
    assert "as 0 to 255" in found["warnings"][0]


@pytest.mark.toolchain(*MODEL)
def test_data_is_looked_at_for_a_model(folder: Path) -> None:
    found = edgepipe.survey("photos", DIGITS, preprocessing={"scale": 1 / 255}, limit=10)
    assert (found.samples, found.inputs[0]["name"], found.warnings) == (10, "image", [])
    shutil.move("photos/9", "photos/10")
    (warning,) = edgepipe.survey("photos", DIGITS, preprocessing={"scale": 1 / 255}).warnings
    assert "labels go from 0 to 10, the model has 10 outputs" in warning


@pytest.mark.toolchain(*MODEL)
def test_report_says_what_was_fed_and_what_was_done_to_it(folder: Path) -> None:
    Path("edgepipe.toml").write_text('[preprocessing]\nscale = 0.5\ncrop = "center"\n')
    result = edgepipe.convert(
        DIGITS, out="out", samples="photos", calibration="random", preprocessing={"scale": 0.25}
    )
    report = result.report
    assert report["samples"]["preprocessing"] == {"scale": 0.25, "crop": "center"}
    assert report["samples"]["from"] == str(folder / "photos")
    assert report["calibration"]["random"] is True
    assert any("random noise" in text for text in report["warnings"])
    again = edgepipe.convert(DIGITS, out="again", samples="photos").report
    assert again["samples"]["preprocessing"]["scale"] == 0.5
    assert again["samples"]["digest"] != report["samples"]["digest"]
    assert again["calibration"] is None


@pytest.mark.toolchain(*MODEL)
def test_wrong_data_ends_the_run_before_its_first_step(folder: Path) -> None:
    np.savez("wrong.npz", picture=np.ones((2, 8, 8, 1)))
    done = run("convert", str(DIGITS), "--calibration", "wrong.npz", "-o", "out")
    assert done.returncode == 2
    assert "holds arrays named 'picture', the model's inputs are 'image'" in done.stderr
    assert "onnx_from_keras" not in done.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--scale", "1/0"], "--scale takes numbers, received '1/0'"),
        (["--mean", "a,b"], "--mean takes numbers, received 'a'"),
        (["--resize", "cubic"], "unknown resize"),
        (["--limit", "0"], "0 is not in the range"),
        (["--preprocessing", "absent.toml"], "absent.toml can't be read"),
        (["--preprocessing", "wrong.toml"], "unknown key of [preprocessing] 'men'"),
    ],
)
def test_wrong_flag_is_one_clear_error(folder: Path, flags: list[str], words: str) -> None:
    Path("wrong.toml").write_text("men = 1\n")
    done = run("data", "photos", "--input", INPUT, *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_model_or_inputs_data_says_what_it_needs(folder: Path) -> None:
    done = run("data", "photos")
    assert done.returncode == 2
    assert "nothing says what the data is for" in done.stderr


def test_flags_go_over_the_file_and_the_file_over_the_project(folder: Path) -> None:
    Path("edgepipe.toml").write_text("[preprocessing]\nmean = 1\nstd = 2\nscale = 3\n")
    Path("mine.toml").write_text("[preprocessing]\nmean = 4\nstd = 5\n")
    from edgepipe.cli.convert import read_flags

    flags = {"model": "m.onnx", "preprocessing_file": Path("mine.toml"), "std": "6", "mean": None}
    model, arguments = read_flags(flags)
    steps = layers.request_for(model, arguments).data("random").preprocessing.steps
    assert (steps.mean, steps.std, steps.scale) == ((4,), (6,), 3)


def test_antialias_is_turned_off_by_its_flag_only() -> None:
    from edgepipe.cli.convert import read_flags

    for said, expected in ((None, {}), (True, {"antialias": True}), (False, {"antialias": False})):
        _, arguments = read_flags({"model": "m", "antialias": said})
        assert arguments.get("preprocessing", {}) == expected


def test_python_refuses_what_the_flags_refuse(folder: Path) -> None:
    cases: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"limit": 0}, OptionError),
        ({"preprocessing": {"men": 1}}, UnknownName),
        ({"preprocessing": {"scale": "x"}}, OptionError),
    ]
    for arguments, kind in cases:
        with pytest.raises(kind):
            edgepipe.survey("random", inputs=[INPUT], **arguments)
    with pytest.raises(SamplesError, match="no samples at"):
        edgepipe.survey("nowhere", inputs=[INPUT])


def test_missing_toolchain_is_said_with_its_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPIPE_CACHE", str(folder / "empty"))
    with pytest.raises(ToolchainMissing) as caught:
        edgepipe.survey("photos", inputs=[INPUT])
    assert "edgepipe toolchain install edge" in caught.value.hint
