#!/usr/bin/env bash
# Converts digits.h5, also to int8, and measures both on the held-out digits. Run `make demo` before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
out=out/examples/digits_keras

edgepipe toolchain install keras onnx2tf edge
edgepipe convert examples/digits_keras/digits.h5 --target tflite \
  --samples examples/digits_keras/samples.npz -o "$out"

edge=$(edgepipe toolchain list --json | python -c '
import json, sys
print(next(one["where"] for one in json.load(sys.stdin)["toolchains"] if one["name"] == "edge"))')
"$edge" examples/accuracy.py "$out/model_float32.tflite" 357

edgepipe convert examples/digits_keras/digits.h5 --target tflite --precision int8 \
  --calibration examples/digits_keras/calibration.npz \
  --samples examples/digits_keras/held_out.npz -o "$out/int8"
"$edge" examples/accuracy.py "$out/int8/model_int8.tflite" 357

# How much faster it got, on this machine; without a limit, as CI's machines are what they are.
edgepipe bench "$out/int8" --latency-budget 5
