#!/usr/bin/env bash
# Converts the Keras example for four targets in one run, with one table at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
data=examples/digits_keras

edgepipe toolchain install keras onnx2tf edge openvino vela
# 3: all is made but what edgetpu_compiler would make, which most machines lack.
code=0
edgepipe convert "$data/digits.h5" --precision int8 \
  --target tflite --target openvino --target edgetpu --target ethos-u55-256 \
  --calibration "$data/calibration.npz" --samples "$data/held_out.npz" \
  --max-sram 16K -o out/examples/digits_targets || code=$?
test "$code" = 0 || test "$code" = 3
