"""Measures `edgepipe validate` on 10,000 samples beside loops over LiteRT written by hand.

    python benchmarks/evaluation.py [--samples N] [--rounds N]

Needs the toolchain edge. A small int8 CNN of 96x96 pixels, that takes as long as a MobileNetV2 in
int8 does (1.4 ms where both were timed), runs over the same file in fresh processes, one after the
other in turns, each timed from its start to its end:
1. a loop over the interpreter in one process with one thread;
2. the same loop in as many processes as there are cores, each with its share of the samples;
3. `edgepipe validate` with an empty store: its reading, metrics, intervals and document included.
Beside the seconds are those of the processors, which other work on the machine changes less. The
peak memory of `validate` is that of its largest process, with a tenth of the samples and all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edgepipe import toolchain
from edgepipe.tflite import saving
from edgepipe.tflite.graph import Graph, Model, Op, Quantization, Signature, Tensor

EDGEPIPE = str(Path(sys.executable).parent / "edgepipe")
SIDE, CLASSES = 96, 10
LAYERS = ((32, 2), (64, 1), (128, 1), (128, 1), (128, 2), (256, 2))
"""Channels and stride of each convolution."""
TIMES, OVERHEAD, GROWTH_MIB = 1.7, 0.15, 20.0

LOOP = """
import sys, numpy as np
from multiprocessing import get_context

def evaluate(path, data, part, parts):
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = taken["quantization"]
    images, labels = np.load(data + "/x.npy", mmap_mode="r"), np.load(data + "/labels.npy")
    right = 0
    for at in range(part * len(images) // parts, (part + 1) * len(images) // parts):
        real = images[at].astype(np.float32)
        stored = np.clip(np.rint(real / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(taken["index"], stored[None])
        interpreter.invoke()
        right += int(interpreter.get_tensor(given["index"]).argmax() == labels[at])
    return right

if __name__ == "__main__":
    path, data, parts = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if parts == 1:
        print(evaluate(path, data, 0, 1))
    else:
        with get_context("spawn").Pool(parts) as pool:
            print(sum(pool.starmap(evaluate, [(path, data, one, parts) for one in range(parts)])))
"""


@dataclass(frozen=True)
class Run:
    """Seconds, those of the processors, the peak of the largest process in MiB, the print."""

    seconds: float
    processors: float
    peak: float
    told: str


def quantized(name: str, shape: tuple[int, ...], scale: float, zero: int = 0) -> Tensor:
    return Tensor(name, shape, "int8", quantization=Quantization((scale,), (zero,)))


def convolution(x: Tensor, name: str, channels: int, stride: int, random: Any) -> Op:
    weights = random.integers(-100, 100, (channels, 3, 3, x.shape[3]))
    scales, zeros = (0.002,) * channels, (0,) * channels
    kernel = Tensor.constant(f"{name}_w", weights, "int8", Quantization(scales, zeros))
    assert x.quantization is not None
    step = 0.002 * x.quantization.scales[0]
    bias = Tensor.constant(
        f"{name}_b", np.zeros(channels), "int32", Quantization((step,) * channels, zeros)
    )
    side = x.shape[1] // stride
    made = quantized(name, (1, side, side, channels), 0.5, -128)
    return Op.make(
        "CONV_2D", [x, kernel, bias], [made], padding="SAME", stride_w=stride, stride_h=stride,
        fused_activation_function="RELU",
    )  # fmt: skip


def network(path: Path) -> None:
    random = np.random.default_rng(0)
    image = quantized("image", (1, SIDE, SIDE, 3), 1.0, -128)
    ops: list[Op] = []
    last = image
    for number, (channels, stride) in enumerate(LAYERS):
        ops.append(convolution(last, f"conv{number}", channels, stride, random))
        last = ops[-1].outputs[0]
    mean = quantized("mean", (1, last.shape[3]), 0.5, -128)
    axes = Tensor.constant("axes", np.array([1, 2], np.int32), "int32")
    ops.append(Op.make("MEAN", [last, axes], [mean], keep_dims=False))
    weights = random.integers(-100, 100, (CLASSES, last.shape[3]))
    kernel = Tensor.constant("fc_w", weights, "int8", Quantization((0.002,), (0,)))
    bias = Tensor.constant("fc_b", np.zeros(CLASSES), "int32", Quantization((0.001,), (0,)))
    scores = quantized("scores", (1, CLASSES), 0.25)
    ops.append(Op.make("FULLY_CONNECTED", [mean, kernel, bias], [scores]))
    graph = Graph("main", [], ops, [image], [scores])
    ends = ([("image", image)], [("scores", scores)])
    saving.save(Model([graph], [Signature("serving_default", graph, *ends)]), path)


def samples(folder: Path, count: int) -> None:
    """The same pixels as a .npz for edgepipe and as .npy for the loops."""
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    labels = random.integers(0, CLASSES, count)
    folder.mkdir()
    np.savez(folder / "data.npz", image=pixels, labels=labels)
    np.save(folder / "x.npy", pixels)
    np.save(folder / "labels.npy", labels)


def timed(command: list[str], environment: dict[str, str]) -> Run:
    """One run with all of its processes."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        output.seek(0)
        told = output.read()
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}:\n{told[-3000:]}")
    return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, told)


def validate(model: Path, data: Path, store: Path) -> Run:
    out = store.with_suffix(".out")
    command = [EDGEPIPE, "validate", str(model), "--data", str(data / "data.npz")]
    run = timed(
        [*command, "-o", str(out), "--metric", "top1", "--no-latency", "-q"],
        {"EDGEPIPE_STORE": str(store)},
    )
    report = json.loads((out / "validation.json").read_text())
    (score,) = report["scores"]
    return replace(run, told=str(round(score["candidate"]["value"] * score["samples"] / 100)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    python, cores = str(toolchain.find("edge").python), len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="edgepipe-bench-") as name:
        folder = Path(name)
        model, loop = folder / "model.tflite", folder / "loop.py"
        network(model)
        loop.write_text(LOOP)
        data, few = folder / "all", folder / "few"
        for where, count in ((data, asked.samples), (few, asked.samples // 10)):
            # In a process of its own: a child's peak begins with that of who started it.
            made = get_context("spawn").Process(target=samples, args=(where, count))
            made.start()
            made.join()
        rounds: list[tuple[Run, Run, Run]] = []
        for number in range(asked.rounds):
            words = [python, str(loop), str(model), str(data)]
            one, bare = timed([*words, "1"], {}), timed([*words, str(cores)], {})
            ours = validate(model, data, folder / f"store{number}")
            counts = [run.told.split()[-1] for run in (one, bare, ours)]
            if len(set(counts)) > 1:
                raise SystemExit(f"they count differently: {', '.join(counts)}")
            rounds.append((one, bare, ours))
            shown = ", ".join(f"{run.seconds:.1f} s ({run.processors:.1f})" for run in rounds[-1])
            print(f"  round {number + 1}: {shown}", flush=True)
        peak = ours.peak
        small = validate(model, few, folder / "few-store").peak
    faster = median(one.seconds / ours.seconds for one, _, ours in rounds)
    over = median(ours.seconds / bare.seconds for _, bare, ours in rounds) - 1
    work = median(ours.processors / bare.processors for _, bare, ours in rounds) - 1
    lines = [
        (f"{faster:.2f} times as fast as one thread", f"{TIMES}", faster >= TIMES or cores < 2),
        (
            f"{over:+.0%} beside {cores} bare processes, {work:+.0%} of the processors' time",
            f"{OVERHEAD:.0%}",
            over <= OVERHEAD,
        ),
        (
            f"peak of {peak:.0f} MiB, with {asked.samples // 10:,} samples {small:.0f}",
            "the same",
            peak - small <= GROWTH_MIB,
        ),
    ]
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"validate on {asked.samples:,} samples, {cores} cores, load {load}:")
    for seen, promised, reached in lines:
        print(f"  {seen} (promised: {promised})  {'reached' if reached else 'NOT'}")
    return 0 if all(reached for *_, reached in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
