#!/usr/bin/env bash
# Shows what the digits network costs as TFLite and as ONNX, and checks both.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
out=out/examples/inspect

edgepipe toolchain install keras onnx2tf edge
edgepipe convert examples/digits_keras/digits.h5 --target tflite \
  --samples examples/digits_keras/samples.npz -o "$out"

edgepipe inspect "$out/model_float32.tflite" --layers
edgepipe inspect "$out/model.onnx"

# Both do the same multiplications; a commit that adds some is to be seen.
for model in "$out/model_float32.tflite" "$out/model.onnx"; do
  edgepipe inspect "$model" --json | python -c '
import json, sys
cost = json.load(sys.stdin)["cost"]
found = cost["total"]["macs"], cost["peak_activation_bytes"]
assert found[0] == 451904 and found[1] <= 16384, found
print("MACs and peak bytes as expected:", *found)'
done
