"""Bad input gets one clear error, the right exit code, and nothing half written."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Build = Callable[[str, str], Path]

pytestmark = pytest.mark.toolchain("keras", "torch", "onnx2tf", "edge")

ODD_KERAS = """
import keras
keras.utils.set_random_seed(0)
image = keras.Input((8, 8, 1), name="image")
plain = keras.Model(image, keras.layers.Flatten()(image))
plain.save("plain.h5")
plain.save("plain.keras")
dense = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
dense.save_weights("only.weights.h5")
free = keras.Input((None, None, 1), name="image")
keras.Model(free, keras.layers.GlobalAveragePooling2D()(free)).save("free.keras")
keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image)).save("lambda.keras")
nan = keras.Model(image, keras.layers.Dense(2, name="d")(keras.layers.Flatten()(image)))
nan.get_layer("d").set_weights([w * float("nan") for w in nan.get_layer("d").get_weights()])
nan.save("nan.keras")
steps = keras.Input(batch_shape=(1, 5, 3))
keras.Model(steps, keras.layers.LSTM(4, stateful=True, name="memory")(steps)).save("state.keras")
words = keras.layers.TextVectorization(max_tokens=20, output_sequence_length=4)
words.adapt(["a b c"])
text = keras.Input((1,), dtype="string", name="text")
keras.Model(text, keras.layers.Embedding(20, 3)(words(text))).save("text.keras")
"""

ODD_TORCH = """
import torch
from pathlib import Path
Path("odd.py").write_text('''
import torch
class Net(torch.nn.Linear):
    def __init__(self): super().__init__(4, 2)
def broken():
    return inner()
def inner():
    raise RuntimeError("the user forgot something")
''')
import sys; sys.path.insert(0, ".")
from odd import Net
torch.save(Net().state_dict(), "state.pt")
torch.save(Net(), "whole.pt")
torch.jit.script(torch.nn.Linear(4, 2)).save("script.pt")
"""

ODD_ONNX = """
import numpy, onnx
from onnx import TensorProto, helper, numpy_helper
def save(name, node, *weights, shape=(1, 4), domain=""):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [x], [y], list(weights))
    imports = [helper.make_opsetid("", 13)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), name)
save("odd.onnx", helper.make_node("Frobnicate", ["x"], ["y"], domain="my.ops"), domain="my.ops")
big = numpy_helper.from_array(numpy.ones((4, 4), "float32"), "w")
model = "lost.onnx"
save(model, helper.make_node("MatMul", ["x", "w"], ["y"]), big)
outside = dict(save_as_external_data=True, location="lost.bin", size_threshold=0)
onnx.save(onnx.load(model), model, **outside)
"""


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPIPE_STORE", str(tmp_path_factory.mktemp("store")))


def convert(*arguments: object, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgepipe", "convert", *map(str, arguments), "-o", str(out)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One error with these words, the exit code, and no traceback."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """The output folder, which no refused run may leave behind."""
    folder = tmp_path / "out"
    yield folder
    assert not folder.exists() or not list(folder.glob("*.tflite"))
    assert not list(tmp_path.rglob("*.partial"))


def test_a_missing_file_is_named_with_its_neighbours(tmp_path: Path, out: Path) -> None:
    (tmp_path / "model.h5").write_bytes(b"x")
    refused(convert(tmp_path / "modle.h5", out=out), 2, "modle.h5", "model.h5")
    assert not out.exists()


def test_a_folder_without_a_model_says_what_is_in_it(tmp_path: Path, out: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("hello")
    refused(convert(tmp_path / "folder", out=out), 2, "notes.txt", "saved_model.pb")


@pytest.mark.parametrize("suffix", ["h5", "keras", "pt", "pt2", "onnx", "tflite", "pb", "hdf5"])
@pytest.mark.parametrize("kind", ["random", "empty"])
def test_random_bytes_are_no_model_whatever_their_suffix(
    suffix: str, kind: str, tmp_path: Path, out: Path
) -> None:
    data = random.Random(7).randbytes(5000) if kind == "random" else b""
    (tmp_path / f"model.{suffix}").write_bytes(data)
    refused(convert(tmp_path / f"model.{suffix}", out=out), 2, f"model.{suffix}")
    assert not out.exists()


@pytest.mark.parametrize("name", ["plain.h5", "plain.keras", "script.pt", "lost.onnx"])
def test_a_truncated_file_is_refused(name: str, build: Build, tmp_path: Path, out: Path) -> None:
    kind = {"plain": ("keras", ODD_KERAS), "script": ("torch", ODD_TORCH)}
    folder = build(*kind.get(name.split(".")[0], ("edge", ODD_ONNX)))
    whole = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    refused(convert(tmp_path / name, out=out), 2, name)


def test_an_operator_that_nobody_knows_is_named(build: Build, out: Path) -> None:
    done = convert(build("edge", ODD_ONNX) / "odd.onnx", out=out)
    assert done.returncode in (2, 4)
    refused(done, done.returncode, "Frobnicate")


def test_weights_that_are_not_beside_the_model_are_named(
    build: Build, tmp_path: Path, out: Path
) -> None:
    shutil.copy(build("edge", ODD_ONNX) / "lost.onnx", tmp_path)
    refused(convert(tmp_path / "lost.onnx", out=out), 2, "lost.bin")


def test_an_open_dimension_is_asked_for_with_an_example_that_works(
    build: Build, tmp_path: Path
) -> None:
    model = build("keras", ODD_KERAS) / "free.keras"
    done = convert(model, out=tmp_path / "out")
    refused(done, 2, "--input image=1x224x224x1:float32")
    assert (
        convert(model, "--input", "image=1x224x224x1:float32", out=tmp_path / "out").returncode == 0
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("picture=1x8x8x1", ("picture", "image ?x8x8x1 float32")),
        ("image=1x9x8x1", ("1x9x8x1", "?x8x8x1")),
        ("image=1x8x8", ("1x8x8",)),
        ("image=1x8x8x1:int8", ("float32", "int8")),
        ("image=1xBx8x1", ("1xBx8x1",)),
        ("image=0x8x8x1", ("0",)),
    ],
)
def test_wrong_inputs_are_told_with_the_right_ones(
    text: str, words: tuple[str, ...], build: Build, out: Path
) -> None:
    model = build("keras", ODD_KERAS) / "plain.keras"
    refused(convert(model, "--input", text, out=out), 2, *words)


def test_a_factory_that_raises_shows_the_users_own_frames(build: Build, out: Path) -> None:
    folder = build("torch", ODD_TORCH)
    done = convert(
        "--model", "odd:broken", "--python-path", folder, "--input", "input=1x4", out=out
    )
    assert done.returncode == 2, done.stderr
    assert "the user forgot something" in done.stderr
    assert "in inner" in done.stderr
    assert "edgepipe/worker.py" not in done.stderr


def test_a_factory_that_is_not_there_lists_what_is(build: Build, out: Path) -> None:
    folder = build("torch", ODD_TORCH)
    done = convert("--model", "odd:Nett", "--python-path", folder, "--input", "x=1x4", out=out)
    refused(done, 2, "Nett", "Net")


@pytest.mark.parametrize(
    ("toolchain", "code", "name", "words"),
    [
        ("keras", ODD_KERAS, "only.weights.h5", ("weights",)),
        ("torch", ODD_TORCH, "state.pt", ("--weights", "--model")),
        ("torch", ODD_TORCH, "whole.pt", ("--trust",)),
        ("keras", ODD_KERAS, "lambda.keras", ("--trust", "Lambda")),
    ],
)
def test_what_can_not_or_must_not_be_loaded_says_what_to_do(
    toolchain: str, code: str, name: str, words: tuple[str, ...], build: Build, out: Path
) -> None:
    refused(convert(build(toolchain, code) / name, out=out), 2, *words)
    assert not out.exists()


def test_a_lambda_converts_with_trust_and_is_refused_again_without(
    build: Build, tmp_path: Path
) -> None:
    model = build("keras", ODD_KERAS) / "lambda.keras"
    assert convert(model, "--trust", out=tmp_path / "out").returncode == 0
    refused(convert(model, out=tmp_path / "again"), 2, "--trust")


def test_a_model_that_gives_nothing_but_nan_is_not_proven(build: Build, out: Path) -> None:
    done = convert(build("keras", ODD_KERAS) / "nan.keras", out=out)
    assert done.returncode in (2, 4), done.stderr
    assert "NaN" in done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [("state.keras", ("memory", "stateful=False")), ("text.keras", ("text ?x1", "vectoriser"))],
)
def test_text_and_state_are_refused_before_any_converter(
    name: str, words: tuple[str, str], build: Build, out: Path
) -> None:
    done = convert(build("keras", ODD_KERAS) / name, out=out)
    refused(done, 2, *words)
    assert "onnx_from_keras" not in done.stderr


def test_a_file_where_the_folder_should_be(build: Build, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    model = build("keras", ODD_KERAS) / "plain.keras"
    refused(convert(model, out=tmp_path / "taken"), 2, "taken", "-o")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_model_name_for_the_folder_is_told_apart(build: Build, tmp_path: Path) -> None:
    model = build("keras", ODD_KERAS) / "plain.keras"
    refused(convert(model, out=tmp_path / "x.tflite"), 2, "folder")


def test_a_store_that_can_not_be_written(build: Build, tmp_path: Path, out: Path) -> None:
    (tmp_path / "file").write_text("")
    model = build("keras", ODD_KERAS) / "plain.keras"
    done = convert(model, out=out, EDGEPIPE_STORE=str(tmp_path / "file" / "store"))
    refused(done, 2, "EDGEPIPE_STORE")


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root: run as root")
@pytest.mark.parametrize("full", ["store", "out"])
def test_a_full_disk_is_told_and_nothing_is_left(full: str, build: Build, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this system lets root mount nothing: run where `mount -t tmpfs` works")
    try:
        settings = {"EDGEPIPE_STORE": str(disk / "store")} if full == "store" else {}
        out = (disk if full == "out" else tmp_path) / "out"
        done = convert(build("keras", ODD_KERAS) / "plain.keras", out=out, **settings)
        refused(done, 3, "bytes")
        assert not out.exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_wrong_samples_are_told_by_name_and_shape(build: Build, tmp_path: Path, out: Path) -> None:
    import numpy as np

    model = build("keras", ODD_KERAS) / "plain.keras"
    np.savez(tmp_path / "names.npz", picture=np.zeros((2, 8, 8, 1)), other=np.zeros(3))
    refused(convert(model, "--samples", tmp_path / "names.npz", out=out), 2, "picture", "image")
    np.savez(tmp_path / "shapes.npz", image=np.zeros((2, 9, 9, 1)))
    refused(convert(model, "--samples", tmp_path / "shapes.npz", out=out), 2, "9x9", "8x8")
    refused(convert(model, "--samples", tmp_path / "none.npz", out=out), 2, "none.npz")


def test_two_models_and_no_model(build: Build, out: Path) -> None:
    refused(convert(out=out), 2, "no model")
    model = build("keras", ODD_KERAS) / "plain.keras"
    refused(convert(model, "--model", "odd:Net", out=out), 2, "two models")


def test_verbose_shows_the_traceback(build: Build, out: Path) -> None:
    done = convert(build("keras", ODD_KERAS) / "lambda.keras", "-v", out=out)
    assert "Traceback" in done.stderr


def test_an_interrupt_stops_everything_at_once(
    build: Build, tmp_path: Path, fresh_store: Path
) -> None:
    model = str(build("keras", ODD_KERAS) / "plain.h5")
    process = subprocess.Popen(
        [sys.executable, "-m", "edgepipe", "convert", model, "-o", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a shell starts in the background ignores the signal, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 20
    while not _children_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)  # Until a worker runs; from then on it takes a second or more.
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert time.monotonic() - start < 2
    assert "Traceback" not in said
    assert "\ninterrupted\n" in said
    assert "✗" not in said, "an interrupt is no failure of a step"
    assert not (tmp_path / "out").exists()
    # A worker that was only just started ends itself, as soon as its Python runs.
    deadline = time.monotonic() + 10
    while _children_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _children_of(process.pid)


def test_an_interrupt_while_edgepipe_is_imported_is_one_line() -> None:
    code = """
import sys, types
class Slow(types.ModuleType):
    def __getattr__(self, name):
        raise KeyboardInterrupt
sys.modules["edgepipe.cli.main"] = Slow("edgepipe.cli.main")
from edgepipe.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def _children_of(parent: int) -> list[str]:
    """Workers that still run although their edgepipe is gone."""
    listed = subprocess.run(["ps", "-wweo", "ppid,args"], capture_output=True, text=True).stdout
    return [
        line
        for line in listed.splitlines()
        if "worker.py" in line and line.split()[0] in (str(parent), "1")
    ]
