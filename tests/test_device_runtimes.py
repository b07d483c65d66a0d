"""The runner on every runtime that is here: TensorFlow, OpenVINO, libedgetpu, old Pythons."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgetpu_compilers import REPLAY, entry_of
from edgetpu_files import needs_pairs, pair
from small_bundles import (
    COUNT,
    Converted,
    an_old_python,
    converted,
    model_of,
    python_of,
    result_of,
    run,
    verdicts,
)

import edgepipe

pytestmark = pytest.mark.toolchain("edge")
CC = shutil.which("cc")
STUB = Path(__file__).with_name("libedgetpu_stub.c")
CHANNELS = "model_size_channel32_quant.tflite"
Builds = Callable[..., Path]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return converted(tmp_path_factory.mktemp("converted"))


@pytest.fixture(scope="module")
def bundle(subject: Converted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return subject.bundle(tmp_path_factory.mktemp("bundle") / "net.edgebundle").path


@pytest.mark.toolchain("keras")
def test_tensorflow_serves_as_the_runtime(bundle: Path, tmp_path: Path) -> None:
    result = result_of(
        bundle, tmp_path, "--runtime", "tensorflow", "--no-latency", python=python_of("keras")
    )
    assert model_of(result)["runtime"]["name"] == "tensorflow"
    assert verdicts(result)["host"] == "passed"


@pytest.mark.toolchain("keras")
def test_open_dimension_takes_the_samples_size(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """TFLiteConverter leaves the batch open; the samples are of three rows each."""
    folder = build("keras", OPEN)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(3).normal(size=(7, 3, 8)).astype("f4"))
    made = edgepipe.bundle(
        folder / "open.tflite", against=folder / "net.keras", data=tmp_path / "x.npz",
        inputs=("x=3x8",), path=tmp_path / "d.edgebundle",
    )  # fmt: skip
    result = result_of(made.path, tmp_path / "r", "--no-latency", python=python_of("edge"))
    (output,) = model_of(result, "open.tflite")["outputs"].values()
    assert output["host"]["elements"] == 7 * 3 * 5
    assert output["reference"]["sqnr_db"] > 100


OPEN = """
import keras, tensorflow as tf
x = keras.Input((8,), name="x")
net = keras.Model(x, keras.layers.Dense(5, name="y")(x))
net.save("net.keras")
converter = tf.lite.TFLiteConverter.from_keras_model(net)
open("open.tflite", "wb").write(converter.convert())
"""


@pytest.mark.toolchain("openvino")
def test_openvino_runs_its_own_models(subject: Converted, tmp_path: Path) -> None:
    out = tmp_path / "out"
    calibration = subject.data.with_name("calibration.npz")
    edgepipe.convert(
        subject.data.with_name("net.tflite"), target="openvino", precision="int8",
        calibration=calibration, min_sqnr=0, out=out,
    )  # fmt: skip
    made = Converted(out, subject.data).bundle(tmp_path / "o.edgebundle")
    result = result_of(made.path, tmp_path / "r", python=python_of("openvino"))
    # The TFLite file on the way has no runtime there, and nobody asked for it.
    assert verdicts(result, "model_float32.tflite") == {"load": "skipped"}
    assert verdicts(result, "openvino_int8")["delegate"] == "passed"
    (output,) = model_of(result, "openvino")["outputs"].values()
    assert output["reference"]["sqnr_db"] > 100
    assert output["host"]["differing"] == 0
    no = run(made.path, "--device", "NPU", python=python_of("openvino"))
    assert (no.returncode, "OpenVINO has no device NPU" in no.stdout) == (3, True)
    other = run(made.path, python=python_of("edge"))
    assert (other.returncode, "no runtime for openvino models" in other.stdout) == (3, True)


# libedgetpu, as far as it goes without a chip


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a golden pair: the int8 model and what the real compiler made of it."""
    folder = tmp_path_factory.mktemp("edgetpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETPU_COMPILER", str(REPLAY))
        source = pair("source", entry_of(CHANNELS))
        edgepipe.convert(source, target="edgetpu", out=folder / "out")
    made = edgepipe.bundle(folder / "out", data="random", path=folder / "t.edgebundle", samples=4)
    assert made.manifest["models"][1]["needs"] == {"edgetpu_runtime": 14}
    assert made.manifest["models"][1]["host"]["of"] == "model_int8.tflite"
    return made.path


@pytest.fixture
def library(tmp_path: Path) -> Builds:
    def build(runtime: int) -> Path:
        path = tmp_path / f"libedgetpu-{runtime}.so"
        assert CC is not None
        flags = [f'-DRUNTIME="{runtime}"', "-DDEVICES=0", "-shared", "-fPIC"]
        subprocess.run([CC, *flags, "-o", path, STUB], check=True)
        return path

    return build


@needs_pairs
def test_without_libedgetpu_the_int8_model_still_runs(compiled: Path) -> None:
    done = run(compiled, python=python_of("edge"), EDGEPIPE_LIBEDGETPU="libnothing.so")
    assert done.returncode == 3
    assert "model_int8.tflite\n  load       passed" in done.stdout
    assert "libedgetpu can't be loaded" in done.stdout


@needs_pairs
@pytest.mark.skipif(CC is None, reason="no C compiler; `apt-get install gcc` brings one")
def test_runtime_that_is_too_old_is_refused_before_it_crashes(
    compiled: Path, library: Builds
) -> None:
    done = run(compiled, python=python_of("edge"), EDGEPIPE_LIBEDGETPU=str(library(13)))
    words = " ".join(done.stdout.split())
    assert done.returncode == 3
    assert "needs version 14 of the Edge TPU runtime, this is 13" in words
    assert "--min-runtime-version 13" in words


@needs_pairs
@pytest.mark.skipif(CC is None, reason="no C compiler; `apt-get install gcc` brings one")
def test_no_stick_says_where_to_look(compiled: Path, library: Builds) -> None:
    done = run(compiled, python=python_of("edge"), EDGEPIPE_LIBEDGETPU=str(library(14)))
    words = " ".join(done.stdout.split())
    assert done.returncode == 3
    assert "can't be used as a delegate" in words
    assert "lsusb" in words


# Boards' Pythons


@pytest.fixture(scope="session")
def board(session_cache: Path) -> Callable[[str, str], Path]:
    """A Python of that version with numpy and a runtime of its time, as a board has it."""

    def make(version: str, packages: str) -> Path:
        base = an_old_python(version)
        if base is None:
            pytest.skip(f"no Python {version} is here")
        folder = session_cache / f"board-{version}"
        if not folder.exists():
            subprocess.run([base, "-m", "venv", folder], check=True, capture_output=True)
            done = subprocess.run(
                [folder / "bin" / "python", "-m", "pip", "install", "-q", *packages.split()],
                capture_output=True, text=True, env={**os.environ, "PIP_NO_INPUT": "1"},
            )  # fmt: skip
            if done.returncode:
                pytest.skip(f"pip can't install {packages}: {done.stderr.strip()[-200:]}")
        return folder / "bin" / "python"

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "packages", "runtime"),
    [
        ("3.7", "numpy<2 tflite-runtime", "tflite_runtime"),
        ("3.8", "numpy<2 tflite-runtime", "tflite_runtime"),
        ("3.13", "numpy ai-edge-litert", "ai_edge_litert"),
    ],
)
def test_runner_passes_on_a_boards_python(
    version: str,
    packages: str,
    runtime: str,
    bundle: Path,
    board: Callable[[str, str], Path],
    tmp_path: Path,
) -> None:
    python = board(version, packages)
    result = result_of(bundle, tmp_path, python=python)
    assert result["board"]["python"].startswith(version)
    found = model_of(result)
    assert found["runtime"]["name"] == runtime
    assert found["samples"] == COUNT
    (output,) = found["outputs"].values()
    assert output["host"]["sqnr_db"] > 20
    assert sum(output["host"]["histogram"].values()) == COUNT * 16
    inner = run(
        bundle, "--keep-tensors", "--delegate", "none", "--no-latency", "--out", tmp_path,
        python=python,
    )  # fmt: skip
    assert inner.returncode == 0, inner.stdout
    with np.load(tmp_path / "tensors-model_int8.tflite.npz") as file:
        assert len(file.files) > 3
