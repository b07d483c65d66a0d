#!/usr/bin/env bash
# Runs the Keras example in int8 on an emulated 64-bit Arm, and compares it with this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
data=examples/digits_keras
out=out/examples/emulated_arm
export EDGEPIPE_CONFIG=$PWD/$out/configuration

if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "emulated on Linux on x86_64 only: nothing to do"
  exit 0
fi
edgepipe toolchain install keras onnx2tf edge
edgepipe convert "$data/digits.h5" --precision int8 --calibration "$data/calibration.npz" \
  --samples "$data/held_out.npz" -o "$out/model"

code=0
edgepipe device add pi --emulate aarch64 --force || code=$?
if [ "$code" = 3 ]; then
  echo "no Debian mirror or no package index can be reached from here: no Arm"
  exit 0
fi
[ "$code" = 0 ]
edgepipe device doctor pi
edgepipe device run host pi "$out/model" --data "$data/held_out.npz" --labels labels \
  --samples 100 --gate min-top1=0.9
edgepipe bundle "$out/model" --data "$data/held_out.npz" --labels labels --samples 20 \
  -o "$out/digits.edgebundle"
edgepipe compare host pi "$out/digits.edgebundle" --max-steps 16 --results "$out/compared"

python - "$out" <<'END'
import json, sys
from pathlib import Path
out = Path(sys.argv[1])
boards = {row["name"]: row for row in json.loads((out / "model/report.json").read_text())["devices"]}
assert boards["pi"]["board"]["machine"] == "aarch64" and boards["pi"]["verdict"] == "passed"
assert "latency" not in boards["pi"]["models"][-1], "an emulator's latency was shown"
for pair in json.loads((out / "compared/comparison.json").read_text())["pairs"]:
    print(f"{pair['model']}: {pair['differing']} of {pair['elements']} outputs differ")
END
