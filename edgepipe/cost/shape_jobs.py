"""The jobs that find shapes in a worker: ONNX's inference, or a run on zeros in LiteRT."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from edgepipe.errors import BrokenOutput

_SMALL = 4096
"""Elements of a constant that may be a shape, an axis or an index; larger ones are weights, and
inference needs no more of them than their own shape."""


def of_onnx(model: str, inputs: dict[str, list[int]], made: str) -> dict[str, str]:
    """Write the model without its weights and with every shape that is found. Gives why some
    are not."""
    onnx = importlib.import_module("onnx")
    inference = importlib.import_module("onnx.shape_inference")
    path = Path(model)
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in proto.graph.initializer:
        _lighten(onnx, tensor, path.parent)
    for value in proto.graph.input:
        if value.name in inputs:
            dims = value.type.tensor_type.shape.dim
            del dims[:]
            for size in inputs[value.name]:
                dims.add().dim_value = size
    if inputs:
        del proto.graph.value_info[:]
        for value in proto.graph.output:
            value.type.tensor_type.ClearField("shape")
    try:
        proto = inference.infer_shapes(proto, strict_mode=False, data_prop=True)
    except Exception as error:  # onnx's C++ errors share no base class
        raise BrokenOutput(f"ONNX's shape inference failed: {error}") from error
    names, why = _unknown(proto), ""
    if names:
        try:
            proto.graph.value_info.extend(_by_running(onnx, path, inputs, names))
        except Exception as error:  # ONNX Runtime's errors share no base class
            why = " ".join(str(error).split())
    Path(made).write_bytes(proto.SerializeToString())
    return {"why": why}


def _unknown(proto: Any) -> list[str]:
    """Values of the main graph that inference gave no whole shape."""
    values = (*proto.graph.value_info, *proto.graph.output)
    known = {
        value.name
        for value in values
        if value.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }
    made = (name for node in proto.graph.node for name in node.output)
    return [name for name in made if name and name not in known]


def _by_running(onnx: Any, path: Path, inputs: dict[str, list[int]], names: list[str]) -> list[Any]:
    """Shapes as they are when ONNX Runtime computes on zeros."""
    ort = importlib.import_module("onnxruntime")
    np = importlib.import_module("numpy")
    proto = onnx.load(str(path))
    outputs = {value.name for value in proto.graph.output}
    proto.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in outputs
    )
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        proto.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    feeds = {
        port.name: np.zeros(inputs.get(port.name, port.shape), _dtype(np, port.type))
        for port in session.get_inputs()
    }
    found = session.run(names, feeds)
    helper = onnx.helper
    return [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, found, strict=True)
        if isinstance(array, np.ndarray) and array.dtype.kind in "fiubc"
    ]


def _dtype(np: Any, words: str) -> Any:
    """ONNX Runtime's `tensor(float)` as numpy's."""
    name = words.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))


def _lighten(onnx: Any, tensor: Any, folder: Path) -> None:
    outside = tensor.data_location == onnx.TensorProto.EXTERNAL
    if math.prod(tensor.dims) > _SMALL:
        for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data",
                     "uint64_data", "external_data", "data_location"):  # fmt: skip
            tensor.ClearField(name)
    elif outside:
        helper = importlib.import_module("onnx.external_data_helper")
        helper.load_external_data_for_tensor(tensor, str(folder))
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT


def of_tflite(model: str, inputs: list[list[int]]) -> dict[str, list[int]]:
    """The shapes of the main graph's tensors by number, after one run on zeros."""
    np = importlib.import_module("numpy")
    litert = importlib.import_module("ai_edge_litert.interpreter")
    try:
        # A delegate would hide what lies between the operators that it takes over.
        plain = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = litert.Interpreter(model_path=model, experimental_op_resolver_type=plain)
        for details, shape in zip(interpreter.get_input_details(), inputs, strict=True):
            if details["shape"].tolist() != shape:
                interpreter.resize_tensor_input(details["index"], shape, strict=True)
        interpreter.allocate_tensors()
        for details in interpreter.get_input_details():
            zeros = np.zeros(details["shape"], details["dtype"])
            interpreter.set_tensor(details["index"], zeros)
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise BrokenOutput(f"LiteRT can't run it at this size: {error}") from error
    return {str(one["index"]): one["shape"].tolist() for one in interpreter.get_tensor_details()}
