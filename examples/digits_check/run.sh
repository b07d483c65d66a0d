#!/usr/bin/env bash
# Checks the models of edgepipe.toml, breaks a gate on purpose, and does a run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$(cd ../.. && pwd)
PATH=$root/.venv/bin:$PATH
results=$root/out/examples/digits_check
mkdir -p "$results"

edgepipe toolchain install $(edgepipe check --toolchains)
edgepipe check --junit "$results/edgepipe.xml" --markdown "$results/edgepipe.md" --html "$results/edgepipe.html"
edgepipe verify out/float
edgepipe rerun out/float/report.json --kept

# The same models beside a gate that none of them holds.
broken=$(mktemp -d)
trap 'rm -rf "$broken"' EXIT
cp -r ../digits_keras "$broken"
mkdir "$broken/check"
sed 's/max-size = "80 KiB"/max-size = "8 KiB"/' edgepipe.toml >"$broken/check/edgepipe.toml"
cp baseline.json "$broken/check"
code=0
(cd "$broken/check" && edgepipe check --quiet digits/tflite) || code=$?
test "$code" = 5
