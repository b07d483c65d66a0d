#!/usr/bin/env bash
# Asks which targets suit the Keras example, within 512 KiB of SRAM.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
data=examples/digits_keras

edgepipe toolchain install keras onnx2tf edge openvino vela
edgepipe advise "$data/digits.h5" --data "$data/calibration.npz" --max-sram 512K
