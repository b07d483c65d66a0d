#!/usr/bin/env bash
# Asks which layers of the digits network lose what int8 costs, and checks the answer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH
out=out/examples/diagnose

edgepipe toolchain install keras onnx2tf edge
edgepipe diagnose examples/digits_keras/digits.h5 \
  --calibration examples/digits_keras/calibration.npz -o "$out"

python - "$out/diagnosis.json" <<'END'
import json, sys
found = json.load(open(sys.argv[1]))
shares = [layer["share"] for layer in found["layers"] if layer["share"] is not None]
assert abs(sum(shares) - 1) < 0.01, shares
assert all(output["sqnr_db"] > 25 for output in found["outputs"].values()), found["outputs"]
print(f"{len(shares)} layers measured; the costliest is {found['layers'][0]['layer']}")
END
