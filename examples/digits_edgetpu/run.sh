#!/usr/bin/env bash
# Makes the compile-ready int8 model of the Keras example; compiles it where the compiler is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
data=examples/digits_keras
out=out/examples/digits_edgetpu

edgepipe toolchain install keras onnx2tf edge
edgepipe convert "$data/digits.h5" --target edgetpu --no-compile --require-full-mapping \
  --calibration "$data/calibration.npz" --samples "$data/held_out.npz" \
  --min-agreement 0.99 -o "$out"
edgepipe preflight "$out/model_int8.tflite" --require-full-mapping

if [ -n "${EDGETPU_COMPILER:-}" ] || command -v edgetpu_compiler >/dev/null; then
  edgepipe compile "$out/model_int8.tflite" --require-full-mapping --max-streamed-bytes 0 -o "$out/compiled"
fi
