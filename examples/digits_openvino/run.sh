#!/usr/bin/env bash
# Converts the Keras example to OpenVINO in int8; edgepipe judges it on the held-out digits.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
data=examples/digits_keras

edgepipe toolchain install keras edge openvino
edgepipe convert "$data/digits.h5" --target openvino --precision int8 \
  --calibration "$data/calibration.npz" --samples "$data/held_out.npz" \
  --min-agreement 0.99 -o out/examples/digits_openvino
