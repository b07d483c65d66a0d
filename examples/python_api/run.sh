#!/usr/bin/env bash
# Runs convert.py with the Python that edgepipe is installed in. Run `make demo` before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

edgepipe toolchain install keras onnx2tf edge
python examples/python_api/convert.py out/examples/python_api
