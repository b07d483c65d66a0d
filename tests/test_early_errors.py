"""What is found wrong with a model before any route is tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import edgepipe
from edgepipe.errors import InputError

pytestmark = pytest.mark.toolchain("edge", "onnx2tf")


def test_a_model_that_can_not_run_on_its_shapes_is_one_early_error(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """As ICLabel's network, which takes batches of four."""
    code = """
import numpy, onnx
from onnx import TensorProto, helper, numpy_helper
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
shape = numpy_helper.from_array(numpy.array([4, -1]), "shape")
node = helper.make_node("Reshape", ["x", "shape"], ["y"])
graph = helper.make_graph([node], "g", [x], [y], [shape])
opset = [helper.make_opsetid("", 13)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "four.onnx")
"""
    model = build("edge", code) / "four.onnx"
    with pytest.raises(InputError, match="can't run in its own framework, fed x 1x3") as caught:
        edgepipe.convert(model, out=tmp_path / "out")
    assert "--input x=4x3" in caught.value.hint
    assert not (tmp_path / "out").exists()
    result = edgepipe.convert(model, out=tmp_path / "out", inputs=("x=4x3",))
    assert result.sqnr_db is not None
