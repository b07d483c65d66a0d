"""Measures the ratios that edgepipe promises, in one run, and says which of them it reaches.

    python benchmarks/bench.py [--rounds N] [--model FILE.h5]

Needs the toolchains keras, onnx2tf and edge. All is measured side by side on this machine:
1. `edgepipe --help` against a Python that imports click and rich, in turns;
2. the first run with an empty store against the raw tools called by hand in fresh processes,
   in turns: Keras and tf2onnx in one, the command onnx2tf in the next, nothing proven;
3. a second, unchanged run against the first, and that it started no worker and imported nothing
   heavy;
4. the parent's peak memory while it converts an ONNX file of 400 MB, as the kernel tells it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

EDGEPIPE = str(Path(sys.executable).parent / "edgepipe")
FRAMEWORKS = re.compile(
    r"\b(tensorflow|keras|tf_keras|torch|onnx|onnxruntime|onnx2tf|tf2onnx|ai_edge_litert)\b"
)
HELP_ROUNDS = 21
LARGE_LAYERS, LARGE_WIDTH = 10, 3200
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}

MOBILENET = """
import sys, keras
keras.utils.set_random_seed(0)
keras.applications.MobileNetV2(weights=None).save(sys.argv[1], include_optimizer=False)
"""
KERAS_TO_ONNX = """
import sys, keras, tensorflow as tf, tf2onnx
model = keras.models.load_model(sys.argv[1], compile=False)
spec = [tf.TensorSpec((1, *one.shape[1:]), one.dtype, name=one.name) for one in model.inputs]
tf2onnx.convert.from_keras(model, spec, opset=15, output_path=sys.argv[2])
"""
LARGE_ONNX = """
import sys, numpy, onnx
from onnx import helper, numpy_helper
layers, width = int(sys.argv[2]), int(sys.argv[3])
random = numpy.random.default_rng(0)
names, nodes, weights = ["x"], [], []
for number in range(layers):
    weight = random.standard_normal((width, width), dtype="float32") / width**0.5
    weights.append(numpy_helper.from_array(weight, f"w{number}"))
    names.append(f"h{number}")
    nodes.append(helper.make_node("MatMul", [names[-2], f"w{number}"], [names[-1]]))
ends = [helper.make_tensor_value_info(name, 1, [1, width]) for name in ("x", names[-1])]
graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(made, sys.argv[1])
"""


@dataclass(frozen=True)
class Line:
    """One promise: what was seen, and the bound it is held to."""

    what: str
    seen: str
    bound: str
    reached: bool


def call(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **QUIET, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def compile_bytecode() -> None:
    """As pip does on installing: click and rich have theirs, an editable install may not."""
    root = Path(__file__).parent.parent
    call(sys.executable, "-m", "compileall", "-q", str(root / "edgepipe"), str(root / "converters"))


def toolchains() -> dict[str, Path]:
    """The interpreter of each toolchain."""
    listed = json.loads(call(EDGEPIPE, "toolchain", "list", "--json"))["toolchains"]
    usable = {one["name"]: Path(one["where"]) for one in listed if one["usable"]}
    lacking = {"keras", "onnx2tf", "edge"} - set(usable)
    if lacking:
        raise SystemExit(f"missing: edgepipe toolchain install {' '.join(sorted(lacking))}")
    return usable


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="edgepipe-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def convert(model: Path, out: Path, store: Path) -> list[str]:
    """The command line; EDGEPIPE_STORE is to be set beside it."""
    store.mkdir(parents=True, exist_ok=True)
    flags = ["--target", "tflite", "--precision", "float32", "-q"]
    return [EDGEPIPE, "convert", str(model), *flags, "-o", str(out)]


def measure_help() -> Line:
    say("--help against imports")
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(HELP_ROUNDS):
        mine.append(seconds(lambda: call(EDGEPIPE, "--help")))
        theirs.append(seconds(lambda: call(sys.executable, "-c", "import click, rich")))
    ratio = median(mine) / median(theirs)
    seen = f"{ratio:.2f}x ({median(mine) * 1000:.0f} ms to {median(theirs) * 1000:.0f} ms)"
    return Line("--help to `import click, rich`", seen, "at most 1.5x", ratio <= 1.5)


def by_hand(model: Path, folder: Path, tools: dict[str, Path]) -> None:
    """What one would type without edgepipe."""
    folder.mkdir(parents=True)
    onnx = folder / "model.onnx"
    call(str(tools["keras"]), "-c", KERAS_TO_ONNX, str(model), str(onnx))
    command = tools["onnx2tf"].parent / "onnx2tf"
    call(str(command), "-i", str(onnx), "-o", str(folder / "raw"), "-n")


def measure_runs(model: Path, tools: dict[str, Path], folder: Path, rounds: int) -> list[Line]:
    """First runs and raw tools in turns; then second runs on the last store."""
    hand: list[float] = []
    first: list[float] = []
    for number in range(rounds):
        say(f"{model.name}: by hand and first run, {number + 1} of {rounds}")
        hand.append(seconds(lambda: by_hand(model, folder / f"hand{number}", tools)))  # noqa: B023
        store = folder / f"store{number}"
        command = convert(model, folder / f"out{number}", store)
        first.append(seconds(lambda: call(*command, EDGEPIPE_STORE=str(store))))  # noqa: B023
    second = [
        seconds(lambda: call(*command, EDGEPIPE_STORE=str(store))) for _ in range(HELP_ROUNDS)
    ]
    overhead, gain = median(first) / median(hand), median(first) / median(second)
    return [
        Line(
            f"first run to raw tools, {model.name}",
            f"{overhead:.2f}x ({median(first):.1f} s to {median(hand):.1f} s)",
            "at most 1.15x",
            overhead <= 1.15,
        ),
        Line(
            f"second run to first, {model.name}",
            f"{gain:.0f} times faster ({median(second) * 1000:.0f} ms)",
            "at least 50",
            gain >= 50,
        ),
        second_run_is_light(command, folder / f"out{rounds - 1}", store),
    ]


def second_run_is_light(command: Sequence[str], out: Path, store: Path) -> Line:
    """Python's own list of imports, and the report's count of workers."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        env={**os.environ, "EDGEPIPE_STORE": str(store)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    heavy = sorted({name for name in imported if FRAMEWORKS.match(name)})
    workers = json.loads((out / "report.json").read_text())["workers"]
    seen = f"{len(heavy)} of {len(imported)} modules, {workers} workers"
    return Line("frameworks in the second run", seen, "none", not heavy and workers == 0)


def measure_memory(tools: dict[str, Path], folder: Path) -> Line:
    say("memory of the parent with a large model")
    model = folder / "large.onnx"
    sizes = (str(LARGE_LAYERS), str(LARGE_WIDTH))
    call(str(tools["edge"]), "-c", LARGE_ONNX, str(model), *sizes)
    store = folder / "large-store"
    command = convert(model, folder / "large", store)
    peak = peak_of(command, {**os.environ, "EDGEPIPE_STORE": str(store)})
    size = model.stat().st_size
    return Line(
        f"memory of the parent, {size / 1e6:.0f} MB of ONNX",
        f"{peak / 1e6:.0f} MB",
        "below 150 MB",
        peak < 150e6 and size >= 400e6,
    )


def peak_of(command: Sequence[str], environment: dict[str, str]) -> int:
    """The most that this process itself held, its children not counted."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        peak = max(peak, int(found[1]) * 1024) if found else peak
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(process.communicate()[1])
    return peak


def print_table(lines: Sequence[Line]) -> None:
    rows = [("", "seen", "promised", "")]
    rows += [(one.what, one.seen, one.bound, "reached" if one.reached else "NOT") for one in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the ratios that edgepipe promises.")
    parser.add_argument("--rounds", type=int, default=3, help="first runs and raw runs, in turns")
    parser.add_argument("--model", type=Path, help="a Keras file (default: a MobileNetV2)")
    arguments = parser.parse_args()
    compile_bytecode()
    tools = toolchains()
    with scratch() as folder:
        model = arguments.model
        if model is None:
            model = folder / "mobilenetv2.h5"
            call(str(tools["keras"]), "-c", MOBILENET, str(model))
        lines = [measure_help(), *measure_runs(model, tools, folder, arguments.rounds)]
        lines.append(measure_memory(tools, folder))
    print_table(lines)
    return 0 if all(line.reached for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
