#!/usr/bin/env bash
# Bundles the Keras example in int8, and runs the bundle in a folder that stands for a board.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
data=examples/digits_keras
out=out/examples/on_device

edgepipe toolchain install keras onnx2tf edge
edgepipe convert "$data/digits.h5" --precision int8 --calibration "$data/calibration.npz" \
  --samples "$data/held_out.npz" -o "$out/model"
edgepipe bundle "$out/model" --data "$data/held_out.npz" --labels labels --samples 360 \
  --gate max-drop=2 --gate min-agreement=0.95 -o "$out/digits.edgebundle"

# A board has the bundle, the one file, and a Python with numpy and a runtime: nothing of edgepipe.
python=$(edgepipe toolchain list --json | python -c '
import json, sys
print(next(one["where"] for one in json.load(sys.stdin)["toolchains"] if one["name"] == "edge"))')
board=$out/board
rm -rf "$board" && mkdir -p "$board"
cp device_tests/run_on_device.py "$out/digits.edgebundle" "$board"
cd "$board"
env -i "$python" run_on_device.py digits.edgebundle --out results
