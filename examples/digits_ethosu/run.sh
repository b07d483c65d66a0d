#!/usr/bin/env bash
# Compiles the Keras example for an Ethos-U55 with 256 MACs, within 16 KiB of SRAM, as C.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
data=examples/digits_keras
out=out/examples/digits_ethosu

edgepipe toolchain install keras onnx2tf edge vela
edgepipe convert "$data/digits.h5" --target ethos-u55-256 \
  --calibration "$data/calibration.npz" --samples "$data/held_out.npz" \
  --min-agreement 0.99 --max-sram 16K --max-flash 64K --require-full-mapping --emit c -o "$out"
edgepipe preflight "$out/model_int8.tflite" --target ethos-u85-128
edgepipe inspect "$out/model_vela.tflite" --source "$out/model_int8.tflite"
