"""Run in a toolchain's interpreter: a tiny model each, and the accelerators that are seen.

Loaded by path, alone: it imports nothing of edgepipe. Each function raises if its frameworks
don't work, and returns the accelerators' names.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

_CPU_PROVIDERS = ("CPUExecutionProvider", "AzureExecutionProvider")


def keras() -> list[str]:
    tf, keras3, tf_keras = map(importlib.import_module, ("tensorflow", "keras", "tf_keras"))
    importlib.import_module("tf2onnx")
    for api in (keras3, tf_keras):
        model = api.Sequential([api.layers.Input((2,)), api.layers.ReLU()])
        _expect(api.__name__, model(tf.constant([[-1.0, 2.0]])).numpy().tolist(), [[0.0, 2.0]])
    return _tensorflow_accelerators(tf)


def torch() -> list[str]:
    torch = importlib.import_module("torch")
    onnx = importlib.import_module("onnx")
    model = torch.nn.ReLU().eval()
    sample = torch.tensor([[-1.0, 2.0]])
    _expect("torch", model(sample).tolist(), [[0.0, 2.0]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, (sample,), str(path), dynamo=True, verbose=False)
        onnx.checker.check_model(str(path))
    return _torch_accelerators(torch)


def onnx2tf() -> list[str]:
    onnxsim, onnxslim = map(importlib.import_module, ("onnxsim", "onnxslim"))
    importlib.import_module("onnx2tf")
    model, proven = onnxsim.simplify(_onnx_model())
    _expect("onnxsim", bool(proven), True)
    return _run_onnx(onnxslim.slim(model))


def onnx2tf_tensorflow() -> list[str]:
    tf = importlib.import_module("tensorflow")
    importlib.import_module("tf_keras")
    return [*onnx2tf(), *_tensorflow_accelerators(tf)]


def litert_torch() -> list[str]:
    torch, litert = map(importlib.import_module, ("torch", "litert_torch"))
    sample = torch.tensor([[-1.0, 2.0]])
    edge_model = litert.convert(torch.nn.ReLU().eval(), (sample,))
    _expect("litert-torch", edge_model(sample).tolist(), [[0.0, 2.0]])
    return _torch_accelerators(torch)


def edge() -> list[str]:
    numpy = importlib.import_module("numpy")
    litert = importlib.import_module("ai_edge_litert.interpreter")
    importlib.import_module("ai_edge_quantizer.quantizer")
    interpreter = litert.Interpreter(model_content=_tflite_model())
    interpreter.allocate_tensors()
    feed = numpy.array([[-1.0, 2.0]], numpy.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], feed)
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    _expect("LiteRT", output.tolist(), [[0.0, 2.0]])
    return _run_onnx(_onnx_model())


def openvino() -> list[str]:
    numpy, openvino = map(importlib.import_module, ("numpy", "openvino"))
    importlib.import_module("nncf")
    ops = importlib.import_module("openvino.opset13")
    x = ops.parameter([1, 2], numpy.float32, name="x")
    core = openvino.Core()
    compiled = core.compile_model(openvino.Model([ops.relu(x)], [x], "tiny"), "CPU")
    output = compiled(numpy.array([[-1.0, 2.0]], numpy.float32))[0]
    _expect("OpenVINO", output.tolist(), [[0.0, 2.0]])
    found = [name for name in core.available_devices if name != "CPU"]
    return [f"OpenVINO: {core.get_property(name, 'FULL_DEVICE_NAME')}" for name in found]


def coco() -> list[str]:
    importlib.import_module("faster_coco_eval")
    return []


def vela() -> list[str]:
    regor = importlib.import_module("ethosu.regor")
    importlib.import_module("ethosu.vela.vela")
    for family in ("EthosU55", "EthosU65", "EthosU85"):
        _expect(family, "CONV_2D" in regor.tflite_operator_constraints(family), True)
    return []


def tflite_micro() -> list[str]:
    numpy = importlib.import_module("numpy")
    runtime = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    sine = Path(str(runtime.__file__)).with_name("sine_float.tflite")
    interpreter = runtime.Interpreter.from_file(str(sine), arena_size=1 << 20)
    interpreter.set_input(numpy.array([[1.5]], numpy.float32), 0)
    interpreter.invoke()
    _expect("TensorFlow Lite Micro", round(float(interpreter.get_output(0)[0, 0])), 1)
    return []


def _expect(what: str, received: Any, expected: Any) -> None:
    if received != expected:
        raise AssertionError(f"{what}: expected {expected!r}, received {received!r}")


def _onnx_model() -> Any:
    onnx = importlib.import_module("onnx")
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2])
        for name in ("x", "y")
    ]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "tiny", ends[:1], ends[1:])
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def _run_onnx(model: Any) -> list[str]:
    numpy, runtime = map(importlib.import_module, ("numpy", "onnxruntime"))
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = numpy.array([[-1.0, 2.0]], numpy.float32)
    _expect("ONNX Runtime", session.run(None, {"x": feed})[0].tolist(), [[0.0, 2.0]])
    names = [name for name in runtime.get_available_providers() if name not in _CPU_PROVIDERS]
    return [f"ONNX Runtime: {name.removesuffix('ExecutionProvider')}" for name in names]


def _tflite_model() -> bytes:
    """A RELU of two floats, written with LiteRT's own schema."""
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    flatbuffers = importlib.import_module("flatbuffers")
    tensors = []
    for name in (b"x", b"y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, [1, 2], 0
        tensor.type = schema.TensorType.FLOAT32
        tensors.append(tensor)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = tensors, [operator]
    graph.inputs, graph.outputs = [0], [1]
    model = schema.ModelT()
    model.version, model.operatorCodes = 3, [code]
    model.subgraphs, model.buffers = [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _tensorflow_accelerators(tf: Any) -> list[str]:
    devices = tf.config.list_physical_devices()
    return [f"TensorFlow: {each.name}" for each in devices if each.device_type != "CPU"]


def _torch_accelerators(torch: Any) -> list[str]:
    found = []
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        found = [f"PyTorch: {torch.cuda.get_device_name(index)}" for index in range(count)]
    if torch.backends.mps.is_available():
        found.append("PyTorch: Apple MPS")
    return found
