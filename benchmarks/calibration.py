"""Measures calibrating on 500 samples beside ai-edge-quantizer's own, and its memory.

    python benchmarks/calibration.py [FILE.tflite]

Needs the toolchains keras (for its MobileNetV2, where no file is given) and edge. Each is a fresh
process; both get the same samples, edgepipe's made one at a time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from edgepipe import toolchain

SAMPLES, FEW = 500, 50
TIMES, GROWTH_MIB = 1.1, 20.0
ROOT = Path(__file__).parents[1]

MAKE = """
import sys, keras, tensorflow as tf
keras.utils.set_random_seed(1)
net = keras.applications.MobileNetV2(weights=None)
fixed = keras.Input(batch_shape=(1, 224, 224, 3), name="x")
converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(fixed, net(fixed)))
open(sys.argv[1], "wb").write(converter.convert())
"""
START = f"""
import json, sys, time
import numpy as np
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from edgepipe.worker import mount
mount("edgepipe.quantization", {str(ROOT / "quantization")!r})
from ai_edge_litert.interpreter import Interpreter
path, count = Path(sys.argv[1]), int(sys.argv[2])
interpreter = Interpreter(str(path))
shape = interpreter.get_input_details()[0]["shape"]
signature, (name,) = next((k, v["inputs"]) for k, v in interpreter.get_signature_list().items())
del interpreter
random = np.random.default_rng(0)
noise = random.standard_normal((8, *shape)).astype(np.float32)
samples = ({{name: noise[number % 8] * (1 + number / 500)}} for number in range(count))

def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024
"""
OURS = """
from edgepipe.artifact import Artifact, Format
from edgepipe.quantization import calibration
from edgepipe.tflite import reader
model = Artifact(path, Format.TFLITE, "", reader.read(path).signature())
name = model.signature.inputs[0].name
start = time.perf_counter()
calibration.observe(model, samples, "mse")
"""
RAW = """
from ai_edge_quantizer import quantizer, recipe
made = quantizer.Quantizer(str(path), recipe.static_wi8_ai8())
samples = list(samples)  # It counts them first, and finds a generator empty then.
start = time.perf_counter()
made.calibrate({signature: samples})
"""
END = """
print(json.dumps([time.perf_counter() - start, peak()]))
"""


def run(code: str, path: Path, count: int) -> tuple[float, float]:
    """Seconds, and the peak of the process in MiB."""
    python = toolchain.find("edge").python
    done = subprocess.run(
        [str(python), "-c", START + code + END, str(path), str(count)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="edgepipe-bench-") as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "mobilenet.tflite"
        if not path.exists():
            keras = toolchain.find("keras").python
            subprocess.run([str(keras), "-c", MAKE, str(path)], check=True, capture_output=True)
        raw, raw_peak = run(RAW, path, SAMPLES)
        ours, peak = run(OURS, path, SAMPLES)
        _, few = run(OURS, path, FEW)
    reached = ours <= TIMES * raw and peak - few <= GROWTH_MIB
    print(
        f"calibration on {SAMPLES} samples, with histograms: {ours:.1f} s, {ours / raw:.2f} times "
        f"ai-edge-quantizer's {raw:.1f} (promised: {TIMES}); peak {peak:.0f} MiB, with {FEW} "
        f"samples {few:.0f} (promised: the same), ai-edge-quantizer's {raw_peak:.0f}  "
        f"{'reached' if reached else 'NOT'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
