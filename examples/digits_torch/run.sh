#!/usr/bin/env bash
# Converts model.py with its weights and measures the result on the held-out digits.
# Run `make demo` before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
out=out/examples/digits_torch

edgepipe toolchain install torch onnx2tf edge
edgepipe convert --model model:make_model --python-path examples/digits_torch \
  --weights examples/digits_torch/digits.safetensors --input image=1x1x8x8 --target tflite \
  --samples examples/digits_torch/samples.npz -o "$out"

edge=$(edgepipe toolchain list --json | python -c '
import json, sys
print(next(one["where"] for one in json.load(sys.stdin)["toolchains"] if one["name"] == "edge"))')
"$edge" examples/accuracy.py "$out/model_float32.tflite" 357
