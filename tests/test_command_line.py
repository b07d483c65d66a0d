"""What `edgepipe convert` prints: on a terminal and piped, when all goes well and when nothing."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

Build = Callable[[str, str], Path]

pytestmark = pytest.mark.toolchain("keras", "onnx2tf", "onnx2tf-tensorflow", "edge")

DIGITS = Path(__file__).parents[1] / "examples" / "digits_keras" / "digits.h5"
COLUMNS = 80
COLOUR = re.compile("\x1b\\[[0-9;]*m")
CONTROL = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")

UNKNOWN = """
import onnx
from onnx import TensorProto, helper
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4))
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
node = helper.make_node("Frobnicate", ["x"], ["y"], domain="my")
graph = helper.make_graph([node], "g", [x], [y])
imports = [helper.make_opsetid("", 13), helper.make_opsetid("my", 1)]
onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), "unknown.onnx")
"""

INT8 = """
from pathlib import Path
import numpy
from ai_edge_quantizer import quantizer, recipe
Path("float.tflite").write_bytes(Path({model!r}).read_bytes())
made = quantizer.Quantizer("float.tflite")
made.load_quantization_recipe(recipe.dynamic_wi8_afp32())
made.quantize().export_model("int8.tflite")
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def shared_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPIPE_STORE", str(store))
    monkeypatch.delenv("NO_COLOR", raising=False)


def convert(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgepipe", "convert", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def convert_on_terminal(*arguments: object, **environment: str) -> str:
    """Everything that a terminal of 80 columns is sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "edgepipe", "convert", *map(str, arguments)]
    # COLUMNS would be believed before the terminal itself.
    settings = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**settings, **environment}
    )
    os.close(theirs)
    received = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux's word for: nobody has the other end open any more.
            break
        if not chunk:
            break
        received += chunk
    os.close(ours)
    process.wait()
    return received.decode()


def test_a_terminal_gets_colours_and_a_clock_unless_told_otherwise(tmp_path: Path) -> None:
    plain = convert_on_terminal(DIGITS, "-o", tmp_path / "out", NO_COLOR="1")
    assert "onnx_from_keras (keras)" in plain, "the clock names what is being done"
    assert not COLOUR.search(plain)
    told = convert_on_terminal(DIGITS, "-o", tmp_path / "out", "--no-color")
    assert not COLOUR.search(told)
    assert COLOUR.search(convert_on_terminal(DIGITS, "-o", tmp_path / "out"))


def test_errors_break_between_words_and_keep_commands_whole(tmp_path: Path) -> None:
    command = "edgepipe toolchain install keras edge onnx2tf"
    said = CONTROL.sub("", convert_on_terminal(DIGITS, EDGEPIPE_CACHE=str(tmp_path / "none")))
    assert f"`{command}`" in said
    wrong = convert_on_terminal(DIGITS, "-O", "nonsense.field=1")
    lines = CONTROL.sub("", wrong).splitlines()
    assert len(lines) > 2, "longer than a line"
    assert all(len(line) <= COLUMNS for line in lines)
    piped = convert(DIGITS, "-O", "nonsense.field=1").stderr
    assert " ".join(words_of(wrong)) == " ".join(piped.split())
    assert len(piped.splitlines()) == 2, "a pipe gets each sentence as one line"


def words_of(text: str) -> list[str]:
    return CONTROL.sub("", text).split()


def test_verbose_shows_the_words_of_the_tools(tmp_path: Path, fresh_store: Path) -> None:
    done = convert(DIGITS, "-o", tmp_path / "out", "-v")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +\| .*\w", done.stderr, re.MULTILINE), done.stderr
    assert " | " not in convert(DIGITS, "-o", tmp_path / "out").stderr


def test_when_every_route_fails_the_report_tells_the_whole_story(
    build: Build, tmp_path: Path
) -> None:
    model = build("edge", UNKNOWN) / "unknown.onnx"
    first = convert(model, "-o", tmp_path / "out")
    assert first.returncode == 4, first.stderr
    assert "Frobnicate" in first.stderr
    assert "left-out" in first.stderr, "the cleaner's failure ends no route"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html",
        "report.json",
    ]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["status"] == "failed"
    assert {item["route"]: item["status"] for item in report["routes"]} == {
        "onnx2tf": "failed",
        "onnx2tf-tf": "failed",
    }
    for item in report["routes"]:
        assert [step["status"] for step in item["steps"]] == ["left-out", "failed"]
        assert "Frobnicate" in item["steps"][-1]["error"]["message"]
        assert Path(item["steps"][-1]["log"]).is_file()


def test_what_failed_is_remembered_until_retry(build: Build, tmp_path: Path) -> None:
    model = build("edge", UNKNOWN) / "unknown.onnx"
    arguments = (model, "-o", tmp_path / "out", "--route", "onnx2tf")
    assert convert(*arguments).returncode == 4
    again = convert(*arguments)
    assert again.returncode == 4
    assert "(seen in an earlier run)" in again.stderr
    assert "(seen in an earlier run)" not in convert(*arguments, "--retry").stderr


def test_a_failure_as_json_is_json_alone(build: Build, tmp_path: Path) -> None:
    model = build("edge", UNKNOWN) / "unknown.onnx"
    done = convert(model, "-o", tmp_path / "out", "--route", "onnx2tf", "--json")
    told = json.loads(done.stdout)
    assert (told["error"], told["exit_code"], done.returncode) == ("NoRouteLeft", 4, 4)


def test_a_quantized_tflite_does_not_pass_for_float32(build: Build, tmp_path: Path) -> None:
    assert convert(DIGITS, "-o", tmp_path / "out", "-q").returncode == 0
    made = tmp_path / "out" / "model_float32.tflite"
    quantized = build("edge", INT8.format(model=str(made))) / "int8.tflite"
    done = convert(quantized, "-o", tmp_path / "again")
    assert done.returncode == 2
    assert "quantized" in done.stderr
    assert not (tmp_path / "again").exists()


def test_samples_that_do_not_fit_are_refused_before_the_first_step(
    tmp_path: Path, fresh_store: Path
) -> None:
    (tmp_path / "samples.npz").write_bytes(b"none")
    done = convert(DIGITS, "-o", tmp_path / "out", "--samples", tmp_path / "samples.npz")
    assert done.returncode == 2
    assert "samples.npz" in done.stderr
    assert "onnx_from_keras" not in done.stderr


def test_a_route_can_be_forced_and_the_others_are_not_touched(tmp_path: Path) -> None:
    done = convert(DIGITS, "-o", tmp_path / "out", "--route", "tflite-converter", "--json")
    report = json.loads(done.stdout)
    assert report["chosen"] == "tflite-converter"
    assert [item["route"] for item in report["routes"]] == ["tflite-converter"]


def test_errors_of_the_command_line_look_like_all_others() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgepipe", "convert", "--nope"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: No such option '--nope'")
    assert "→ see `edgepipe convert --help`." in done.stderr
