"""A model as C for firmware, compiled and run, and TensorFlow Lite Micro beside LiteRT."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from int8_models import convolution, net, saved, tensor
from tflite_models import model_of

import edgepipe
from edgepipe import c_source, making, micro, toolchain
from edgepipe.artifact import Artifact, Format
from edgepipe.c_source import Arena
from edgepipe.errors import EdgepipeError
from edgepipe.identify import identify
from edgepipe.micro import Micro
from edgepipe.session import Session
from edgepipe.tflite import loading, reader, saving
from edgepipe.tflite.encode import encode
from edgepipe.tflite.inline import write_inline

needs_vela = pytest.mark.toolchain("vela", "edge")
needs_micro = pytest.mark.toolchain("tflite-micro", "edge")
GCC = shutil.which("gcc")

MAIN = """
#include <stdint.h>
#include <stdio.h>
#include "NAME.h"
int main(void) {
  if ((uintptr_t)NAME % 16 != 0) return 3;
  return fwrite(NAME, 1, UPPER_SIZE, stdout) == UPPER_SIZE ? 0 : 4;
}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(net(), tmp_path_factory.mktemp("firmware") / "net.tflite")


def compiled_content(folder: Path, stem: str) -> bytes:
    """What a program that holds the array finds in it."""
    if GCC is None:
        pytest.skip("no gcc here; on Debian: apt install gcc")
    main = folder / "main.c"
    main.write_text(MAIN.replace("NAME", stem).replace("UPPER", stem.upper()))
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    program = folder / "program"
    subprocess.run([GCC, *strict, main, folder / f"{stem}.c", "-o", program], check=True)
    return subprocess.run([program], check=True, capture_output=True).stdout


def number(folder: Path, stem: str, name: str) -> int:
    text = (folder / f"{stem}.h").read_text()
    (found,) = re.findall(rf"#define {stem.upper()}_{name} (\d+)u", text)
    return int(found)


@needs_vela
def test_a_compiled_model_is_written_as_c_that_compiles(model: Path, tmp_path: Path) -> None:
    result = edgepipe.convert(model, target="ethos-u55-256", emit="c", out=tmp_path)
    assert result.report["emitted"] == ["model_vela.c", "model_vela.h"]
    assert result.files["model_vela.h"] == tmp_path / "model_vela.h"
    assert compiled_content(tmp_path, "model_vela") == result.model.read_bytes()
    step = result.report["routes"][0]["steps"][0]
    needed = step["summary"]["ethosu"]["sram_bytes"] + (step["proof"]["micro"]["tail"] or 0)
    assert needed <= number(tmp_path, "model_vela", "ARENA_SIZE") < needed + 16


@needs_vela
def test_a_memory_of_its_own_is_named_apart(tmp_path: Path) -> None:
    x = tensor("x", (1, 64, 64, 16))
    first = convolution(x, "a", 32)
    second = convolution(first.outputs[0], "b", 32)
    path = saved(model_of([first, second], [x], second.outputs), tmp_path / "wide.tflite")
    edgepipe.convert(path, target="ethos-u65-512", emit="c", out=tmp_path)
    assert number(tmp_path, "model_vela", "FAST_MEMORY_SIZE") > 0


@needs_micro
def test_a_tflite_model_is_written_with_its_measured_arena(tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "examples" / "digits_keras"
    lacking = toolchain.missing(["keras", "onnx2tf"])
    if lacking is not None:
        pytest.skip(f"{lacking.message}; {lacking.hint}")
    arguments: dict[str, Any] = {"target": "tflite", "precision": "int8", "out": tmp_path}
    calibration = str(data / "calibration.npz")
    result = edgepipe.convert(data / "digits.h5", calibration=calibration, emit="c", **arguments)
    content = compiled_content(tmp_path, "model_int8")
    assert reader.read_bytes(content).ops() == reader.read(result.model).ops()
    assert 1000 < number(tmp_path, "model_int8", "ARENA_SIZE") < 100_000
    assert number(tmp_path, "model_int8", "INPUT_0_ELEMENTS") == 64
    # A later run that emits nothing leaves no stale C beside the new model.
    edgepipe.convert(data / "digits.h5", calibration=calibration, **arguments)
    assert not (tmp_path / "model_int8.c").exists()


def test_the_header_holds_scales_and_survives_any_name(tmp_path: Path) -> None:
    made = net()
    made.graphs[0].inputs[0].name = "in */ put\n\u00e9"
    path = saved(made, tmp_path / "8 bit-net.tflite")
    c_source.write(path, tmp_path, Arena(1024, "Arena: measured."))
    text = (tmp_path / "8 bit-net.h").read_text()
    assert "#define MODEL_8_BIT_NET_INPUT_0_SCALE 0.05" in text
    assert "#define MODEL_8_BIT_NET_INPUT_0_ZERO_POINT (0)" in text
    assert "#define MODEL_8_BIT_NET_ARENA_SIZE 1024u" in text
    if GCC is not None:
        checked = [GCC, "-x", "c++", "-fsyntax-only", "-Wall", "-Werror"]
        subprocess.run([*checked, tmp_path / "8 bit-net.h"], check=True)


def test_without_a_measurement_the_header_says_how_to_get_one(model: Path, tmp_path: Path) -> None:
    c_source.write(model, tmp_path, None)
    text = (tmp_path / "net.h").read_text()
    assert "ARENA_SIZE" not in text
    assert "edgepipe toolchain install tflite-micro" in text


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"emit": "rust", "target": "tflite"}, "unknown form to emit"),
        ({"emit": "c", "target": "onnx", "precision": "float32"}, "the target onnx gives none"),
        ({"emit": "c", "target": "ethos-u55-256", "no_compile": True}, "is not compiled"),
    ],
)
def test_c_of_what_has_none_is_refused(
    model: Path, tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgepipeError, match=message):
        edgepipe.convert(model, out=tmp_path / "out", **said)


# TensorFlow Lite Micro


def far_buffers(path: Path) -> Path:
    """The same model with its weights behind the FlatBuffer, as ai-edge-quantizer leaves them."""
    root = saving._Saver().root(loading.load(path))
    far = [one for one in root.buffers if one.data is not None and len(one.data) > 100]
    data = [bytes(one.data) for one in far]
    for one, content in zip(far, data, strict=True):
        one.data, one.offset, one.size = None, 1 << 40, len(content)
    at = sum(map(len, encode(root, reader.IDENTIFIER)))
    for one, content in zip(far, data, strict=True):
        one.offset, at = at, at + len(content)
    target = path.with_name("far.tflite")
    target.write_bytes(b"".join([*encode(root, reader.IDENTIFIER), *data]))
    assert far
    return target


@needs_micro
def test_micro_agrees_with_litert_and_measures_its_arena(
    session: Session, artifact: Any, tmp_path: Path
) -> None:
    x = tensor("x", (1, 8, 8, 3))
    first = convolution(x, "a", 16)
    second = convolution(first.outputs[0], "b", 300)
    path = saved(model_of([first, second], [x], second.outputs), tmp_path / "two.tflite")
    found: Artifact = artifact(path)
    made = micro.measure(session, found)
    assert made.why == ""
    assert made.steps <= 1
    assert made.arena >= 8 * 8 * (16 + 300)
    assert made.head + made.tail <= made.arena
    assert "in an arena of" in made.told()


@needs_micro
def test_weights_behind_the_flatbuffer_are_brought_into_it(
    session: Session, artifact: Any, model: Path
) -> None:
    path = far_buffers(model)
    assert identify(path) is Format.TFLITE_QUANTIZED
    found = artifact(path)
    assert micro.measure(session, found).steps <= 1
    # Without that it says nothing and computes something else: the reason for `inline`.
    samples = session.samples.key(found.ends())
    feeds = making.feeds_file(session, found.ends(), samples)
    outputs = path.with_name("outputs.npz")
    session.call(
        "tflite-micro",
        "edgepipe.runners.tflite_micro:measure",
        session.log("far"),
        artifact=found.to_json(),
        feeds=str(feeds),
        outputs=str(outputs),
        count=2,
    )
    assert micro._steps(found, making.outputs(session, found, samples), outputs.parent) > 20


@needs_micro
def test_what_micro_lacks_is_said_and_ends_nothing(
    session: Session, artifact: Any, tmp_path: Path
) -> None:
    from edgepipe.tflite.graph import Op

    x, y = tensor("x", (1, 8, 8, 4)), tensor("y", (1, 8, 8, 4))
    path = saved(model_of([Op.make("GELU", [x], [y])], [x], [y]), tmp_path / "gelu.tflite")
    found = micro.measure(session, artifact(path))
    assert "can't load the model: Didn't find op for builtin opcode 'GELU'" in found.why
    assert found.told().startswith("not run in TensorFlow Lite Micro: ")


def test_without_micro_its_installation_is_named(
    session: Session, artifact: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPIPE_PYTHON_TFLITE_MICRO", "/nowhere/python")
    with pytest.raises(EdgepipeError):
        toolchain.find("tflite-micro")
    assert micro.measure(session, artifact(model)) == Micro(
        why="edgepipe toolchain install tflite-micro"
    )


def test_a_file_of_one_piece_holds_the_same_numbers(model: Path, tmp_path: Path) -> None:
    write_inline(model, tmp_path / "inline.tflite")
    before, after = reader.read(model), reader.read(tmp_path / "inline.tflite")
    assert before.ops() == after.ops()
    for one, other in zip(before.main.tensors, after.main.tensors, strict=True):
        if one.constant:
            assert other.start % 16 == 0
            wanted, received = before.constant(one), after.constant(other)
            assert wanted is not None
            assert received is not None
            np.testing.assert_array_equal(wanted, received)
