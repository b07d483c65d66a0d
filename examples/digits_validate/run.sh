#!/usr/bin/env bash
# Converts the Keras example to int8, then says on the held-out digits whether it is good enough.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
data=examples/digits_keras
out=out/examples/digits_validate

edgepipe toolchain install keras onnx2tf edge
edgepipe convert "$data/digits.h5" --precision int8 --calibration "$data/calibration.npz" -o "$out"
edgepipe validate "$out" --data "$data/held_out.npz" --gate max-drop=2 --gate min-agreement=98 \
  --gate max-size=32KiB
edgepipe validate "$out" --data "$data/held_out.npz" --baseline onnxruntime --json > "$out/onnx.json"

# What was learnt from is no measure of the accuracy: exit code 2.
if edgepipe validate "$out" --data "$data/calibration.npz"; then exit 1; fi
# A limit that the model doesn't reach: exit code 5.
code=0
edgepipe validate "$out" --data "$data/held_out.npz" --gate min-top1=99.99 -q || code=$?
[ "$code" = 5 ]
