"""An IR whose .bin is missing or another model's: one clear error, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepipe.cli.main import run

pytestmark = pytest.mark.toolchain("openvino")

Build = Callable[[str, str], Path]

MODEL = """
import numpy as np, openvino as ov
from openvino import opset13 as op
x = op.parameter([1, 4], np.float32, name="x")
y = op.matmul(x, op.constant(np.ones((4, 300), np.float32)), False, False)
x.output(0).set_names({"x"})
y.output(0).set_names({"y"})
ov.save_model(ov.Model([y], [x], "m"), "model.xml", compress_to_fp16=False)
"""
COMMANDS = {
    "convert": ("convert", "MODEL", "--target", "openvino", "-o", "OUT"),
    "several": ("convert", "MODEL", "--target", "openvino", "--target", "onnx", "-o", "OUT"),
    "plan": ("plan", "MODEL", "--target", "openvino"),
    "inspect": ("inspect", "MODEL"),
    "preflight": ("preflight", "MODEL", "--target", "openvino"),
    "profile": ("openvino", "profile", "MODEL"),
    "bench": ("bench", "MODEL"),
    "validate": ("validate", "MODEL", "--data", "DATA"),
    "diagnose": ("diagnose", "MODEL", "--calibration", "DATA"),
    "advise": ("advise", "MODEL", "--data", "DATA"),
}


@pytest.mark.parametrize("form", ["folder", "file"])
@pytest.mark.parametrize(
    ("size", "words"),
    [
        (None, "model.bin with its weights is missing"),
        (100, "needs 4,800 bytes of weights, model.bin has 100"),
        (100_000, "uses 4,800 bytes of weights, and model.bin has 100,000"),
    ],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_is_wrong_with_the_weights(
    build: Build,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    size: int | None,
    words: str,
    form: str,
) -> None:
    folder = tmp_path / "ir"
    folder.mkdir()
    (folder / "model.xml").write_bytes((build("openvino", MODEL) / "model.xml").read_bytes())
    if size is not None:
        (folder / "model.bin").write_bytes(bytes(size))
    np.savez(tmp_path / "data.npz", x=np.zeros((8, 4), np.float32))
    places = {
        "MODEL": folder if form == "folder" else folder / "model.xml",
        "OUT": tmp_path / "out",
        "DATA": tmp_path / "data.npz",
    }
    code = run([str(places.get(word, word)) for word in COMMANDS[name]])
    said = capfd.readouterr().err
    assert code == 2, said
    assert words in " ".join(said.split())
    assert said.count("error:") == 1
    assert "Traceback" not in said
