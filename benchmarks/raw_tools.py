"""Quantizes a model to int8 with the tools themselves, as one would by hand, and runs TFLite files.

Each tool runs in a process of its own in the toolchain that has it, and is given the calibration
samples (an array `x`, in the layout of the model). What it writes is taken as it is.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepipe import toolchain

TIMEOUT = 240
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}

KERAS_TO_ONNX = """
import sys, keras, tensorflow as tf, tf2onnx, numpy
model = keras.models.load_model(sys.argv[1], compile=False)
samples = numpy.load(sys.argv[3])["x"]
spec = [tf.TensorSpec((1, *samples.shape[1:]), tf.float32, name=model.inputs[0].name)]
try:
    tf2onnx.convert.from_keras(model, spec, opset=15, output_path=sys.argv[2])
except KeyError:  # of a Sequential
    function = tf.function(lambda x: model(x, training=False))
    tf2onnx.convert.from_function(function, spec, opset=15, output_path=sys.argv[2])
"""
TORCH_TO_ONNX = """
import sys, torch, numpy
module = torch.export.load(sys.argv[1]).module()
sample = torch.from_numpy(numpy.load(sys.argv[3])["x"][:1])
torch.onnx.export(module, (sample,), sys.argv[2], dynamo=True, external_data=False)
"""
LITERT_TORCH = """
import sys, torch, numpy, litert_torch
module = torch.export.load(sys.argv[1]).module()
sample = torch.from_numpy(numpy.load(sys.argv[3])["x"][:1])
litert_torch.convert(module, (sample,), strict_export=False).export(sys.argv[2])
"""
TFLITE_CONVERTER = """
import sys, keras, tensorflow as tf, numpy
model = keras.models.load_model(sys.argv[1], compile=False)
samples = numpy.load(sys.argv[3])["x"]
if None in model.inputs[0].shape[1:]:
    model = keras.Model(keras.Input(samples.shape[1:]), model(keras.Input(samples.shape[1:])))
converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
open(sys.argv[2], "wb").write(converter.convert())
"""
FITTED = """
def fitted(sample, shape):
    if tuple(sample.shape) == tuple(shape):
        return sample
    return numpy.ascontiguousarray(numpy.moveaxis(sample, 1, -1))
"""
AEQ = (
    FITTED
    + """
import sys, numpy
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
path, out, data = sys.argv[1:]
made = quantizer.Quantizer(path, recipe.static_wi8_ai8())
interpreter = Interpreter(path)
key = next(iter(interpreter.get_signature_list()))
[(name, end)] = interpreter.get_signature_runner(key).get_input_details().items()
samples = [{name: fitted(one[None], end["shape"])} for one in numpy.load(data)["x"]]
seen = made.calibrate({key: samples})
open(out, "wb").write(made.quantize(seen, enable_progress_report=False).quantized_model)
"""
)
RUN = (
    FITTED
    + """
import sys, numpy
from ai_edge_litert.interpreter import Interpreter
path, out, data = sys.argv[1:]
interpreter = Interpreter(path, num_threads=2)
interpreter.allocate_tensors()
[into], [of] = interpreter.get_input_details(), interpreter.get_output_details()
answers = []
for sample in numpy.load(data)["x"]:
    fed = fitted(sample[None], into["shape"])
    if into["dtype"] != numpy.float32:
        scale, zero = into["quantization"]
        limits = numpy.iinfo(into["dtype"])
        fed = numpy.clip(numpy.round(fed / scale) + zero, limits.min, limits.max)
    interpreter.set_tensor(into["index"], fed.astype(into["dtype"]))
    interpreter.invoke()
    answer = interpreter.get_tensor(of["index"])[0]
    if of["dtype"] != numpy.float32:
        scale, zero = of["quantization"]
        answer = (answer.astype(numpy.float32) - zero) * scale
    answers.append(answer.reshape(-1))
numpy.save(out, numpy.stack(answers))
"""
)


class ToolFailed(Exception):
    """A raw tool ended with an error or ran too long; the message is its last line."""


@dataclass(frozen=True)
class Tool:
    """One way to int8 without edgepipe, and the suffix of the models that it takes."""

    name: str
    suffix: str
    make: Callable[[Path, Path, Path], Path]
    """Called with the model, the calibration samples and an empty folder."""


def onnx2tf(model: Path, calibration: Path, folder: Path) -> Path:
    keras = model.suffix == ".keras"
    onnx = folder / "model.onnx"
    script = KERAS_TO_ONNX if keras else TORCH_TO_ONNX
    call("keras" if keras else "torch", script, model, onnx, calibration)
    command = toolchain.find("onnx2tf").python.parent / "onnx2tf"
    _run(str(command), "-i", str(onnx), "-o", str(folder / "raw"), "-n", cwd=folder)
    found = sorted((folder / "raw").glob("*float32.tflite"))
    if not found:
        raise ToolFailed("onnx2tf wrote no float32 file")
    return call("edge", AEQ, found[0], folder / "model_int8.tflite", calibration)


def litert_torch(model: Path, calibration: Path, folder: Path) -> Path:
    plain = call("litert-torch", LITERT_TORCH, model, folder / "model_float.tflite", calibration)
    return call("edge", AEQ, plain, folder / "model_int8.tflite", calibration)


def tflite_converter(model: Path, calibration: Path, folder: Path) -> Path:
    return call("keras", TFLITE_CONVERTER, model, folder / "model_int8.tflite", calibration)


TOOLS = (
    Tool("onnx2tf + ai-edge-quantizer", ".keras", onnx2tf),
    Tool("onnx2tf + ai-edge-quantizer", ".pt2", onnx2tf),
    Tool("litert-torch + ai-edge-quantizer", ".pt2", litert_torch),
    Tool("TFLiteConverter", ".keras", tflite_converter),
)


def tools_for(model: Path) -> list[Tool]:
    return [tool for tool in TOOLS if tool.suffix == model.suffix]


def answers(model: Path, samples: Path, folder: Path) -> NDArray[np.float32]:
    """What a TFLite file with one input and one output says of each sample, as numbers."""
    out = call("edge", RUN, model, folder / f"{model.stem}-answers.npy", samples)
    found: NDArray[np.float32] = np.load(out)
    return found


def call(chain: str, script: str, source: Path, out: Path, *more: Path) -> Path:
    """Run a script in a toolchain; it is given its paths as arguments and writes `out`."""
    python = str(toolchain.find(chain).python)
    _run(
        python,
        "-c",
        script,
        *(str(path.absolute()) for path in (source, out, *more)),
        cwd=out.parent,
    )
    return out


def _run(*command: str, cwd: Path) -> None:
    """In a folder of its own, since exporters leave files where they are called."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **QUIET},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolFailed(f"not done after {TIMEOUT} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = next((line for line in reversed(lines) if "rror" in line), (lines or [""])[-1])
        raise ToolFailed(f"{said[:200]} (exit code {done.returncode})")
