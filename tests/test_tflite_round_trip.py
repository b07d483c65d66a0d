"""What converters wrote, read and written by the graph library, computes the same to the bit.

EDGEPIPE_TFLITE_SAMPLES names a folder with further files to try.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from edgetpu_files import GOLDEN

from edgepipe.tflite import loading, saving

Build = Callable[[str, str], Path]

CONVERTED = """
import numpy as np, tensorflow as tf
tf.random.set_seed(0)
L = tf.keras.layers
image = tf.keras.Sequential([
    L.Input((16, 16, 3), batch_size=1), L.Conv2D(8, 3, activation="relu"), L.DepthwiseConv2D(3),
    L.BatchNormalization(), L.MaxPooling2D(), L.Conv2DTranspose(4, 2, 2, activation="relu6"),
    L.UpSampling2D(interpolation="bilinear"), L.Flatten(), L.Dense(5), L.Softmax()])
series = tf.keras.Sequential([L.Input((7, 4), batch_size=1), L.LSTM(6), L.Dense(2)])
looped = tf.keras.Sequential([L.Input((7, 4), batch_size=1), L.GRU(5, reset_after=False)])

def write(name, model, **settings):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.experimental_new_quantizer = True
    for key, value in settings.items():
        setattr(converter, key, value)
    open(name + ".tflite", "wb").write(converter.convert())

def samples():
    random = np.random.default_rng(0)
    for _ in range(8):
        yield [random.standard_normal((1, 16, 16, 3)).astype("float32")]

small, ints = [tf.lite.Optimize.DEFAULT], [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
write("float32", image)
write("dynamic", image, optimizations=small)
write("float16", image, optimizations=small,
      target_spec=tf.lite.TargetSpec(supported_types=[tf.float16]))
write("int8", image, optimizations=small, representative_dataset=samples,
      target_spec=tf.lite.TargetSpec(supported_ops=ints))
write("lstm", series)
write("while", looped)
"""

QUANTIZED = """
import sys, pathlib, numpy as np
from ai_edge_quantizer import quantizer, recipe
rng = np.random.default_rng(0)
made = quantizer.Quantizer(sys.argv[1] + "/float32.tflite", recipe.static_wi8_ai8())
name = "args_0"
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(sys.argv[1] + "/float32.tflite").get_signature_runner()
(name,) = runner.get_input_details()
data = [{name: rng.standard_normal((1, 16, 16, 3)).astype("float32")} for _ in range(4)]
ranges = made.calibrate({"serving_default": data})
made.quantize(ranges).export_model(sys.argv[2])
"""

COMPARE = """
import json, sys, numpy
from ai_edge_litert.interpreter import Interpreter

def run(path):
    runtime = Interpreter(model_path=path)
    runtime.allocate_tensors()
    random = numpy.random.default_rng(0)
    for one in runtime.get_input_details():
        values = random.standard_normal(one["shape"]) * (1 if one["dtype"] == numpy.float32 else 30)
        runtime.set_tensor(one["index"], values.astype(one["dtype"]))
    runtime.invoke()
    outputs = runtime.get_output_details()
    return [(one["name"], runtime.get_tensor(one["index"])) for one in outputs]

same = {}
for before, after in json.loads(sys.argv[1]):
    try:
        expected = run(before)
    except (RuntimeError, ValueError):
        continue  # needs operators or data that aren't here, before as well as after
    received = run(after)
    same[before] = len(expected) == len(received) and all(
        a == b and x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for (a, x), (b, y) in zip(expected, received))
print(json.dumps(same))
"""


def compare(python: Path, files: list[Path], folder: Path) -> dict[str, bool]:
    pairs = []
    for number, path in enumerate(files):
        saving.save(loading.load(path), folder / f"{number}.tflite")
        pairs.append((str(path), str(folder / f"{number}.tflite")))
    done = subprocess.run(
        [str(python), "-c", COMPARE, json.dumps(pairs)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, bool] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.toolchain("keras", "edge")
def test_converted_models_compute_the_same_to_the_bit(
    build: Build, toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    made = build("keras", CONVERTED)
    edge = toolchain("edge")
    quantized = tmp_path / "quantized.tflite"
    subprocess.run(
        [str(edge), "-c", QUANTIZED, str(made), str(quantized)], check=True, capture_output=True
    )
    files = [*sorted(made.glob("*.tflite")), quantized]
    assert len(files) == 7
    same = compare(edge, files, tmp_path)
    assert same == {str(path): True for path in files}
    kinds = {op.name for path in files for graph in loading.load(path).graphs for op in graph.ops}
    assert {"WHILE", "TRANSPOSE_CONV", "DEQUANTIZE", "RESIZE_BILINEAR"} <= kinds


@pytest.mark.toolchain("edge")
def test_further_files_compute_the_same_to_the_bit(
    toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(os.environ.get("EDGEPIPE_TFLITE_SAMPLES", GOLDEN / "pairs"))
    files = sorted(folder.rglob("*.tflite"))
    if not files:
        pytest.skip("no real files here; EDGEPIPE_TFLITE_SAMPLES names a folder with some")
    same = compare(toolchain("edge"), files, tmp_path)
    assert len(same) >= len(files) // 3, "too few of them run here to say anything"
    assert all(same.values()), [path for path, equal in same.items() if not equal]
