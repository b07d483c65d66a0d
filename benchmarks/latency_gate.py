"""Measures the latency gate under load: equal models, and one that does 30 % more work.

    python benchmarks/latency_gate.py [--runs 50] [--seconds 20] [--quiet-machine]

Needs the toolchain edge. Other processes burst on every core meanwhile: busy and idle for random
times, some filling the memory's bandwidth. A false alarm is a gate that fails two copies of one
model; a miss is one that passes the slower model.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgepipe import inputs, making, tensors
from edgepipe.request import Request, open_model
from edgepipe.samples import SampleSource
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.tflite import saving
from edgepipe.tflite.graph import Graph, Model, Op, Signature, Tensor
from edgepipe.validation import latency
from edgepipe.validation.ratio_gate import ratio_gate
from edgepipe.validation.subject import Subject

LIMIT = 1.1
LAYERS, MORE = 20, 26
"""Convolutions of the two models: 30 % more of the same work."""

NEIGHBOUR = """
import random, sys, time
import numpy as np
draw = random.Random(int(sys.argv[1]))
block = np.ones(1 << 22)
while True:
    time.sleep(draw.expovariate(4))
    end, wide = time.monotonic() + draw.expovariate(4), draw.random() < 0.3
    while time.monotonic() < end:
        block.sum() if wide else sum(range(10_000))
"""


def network(path: Path, layers: int) -> Path:
    """A chain of equal convolutions, so that its time grows with their number."""
    random = np.random.default_rng(0)
    x = last = Tensor("x", (1, 24, 24, 32))
    ops = []
    for number in range(layers):
        weights = random.standard_normal((32, 3, 3, 32)).astype(np.float32) / 17
        made = Tensor(f"y{number}", (1, 24, 24, 32))
        operands = [
            last,
            Tensor.constant(f"w{number}", weights, "float32"),
            Tensor.constant(f"b{number}", np.zeros(32, np.float32), "float32"),
        ]
        ops.append(
            Op.make(
                "CONV_2D",
                operands,
                [made],
                padding="SAME",
                stride_w=1,
                stride_h=1,
                fused_activation_function="RELU",
            )
        )
        last = made
    graph = Graph("main", [], ops, [x], [last])
    ends = [[(tensor.name, tensor) for tensor in side] for side in ([x], [last])]
    saving.save(Model([graph], [Signature("serving_default", graph, ends[0], ends[1])]), path)
    return path


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Other work on the machine, in bursts."""
    running = [
        subprocess.Popen([sys.executable, "-c", NEIGHBOUR, str(seed)]) for seed in range(count)
    ]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def once(
    session: Session, candidate: Path, baseline: Path, seconds: float, seed: int
) -> tuple[str, float, float]:
    """The verdict, the ratio, and how long it took: everything fresh, as in two runs of CI."""
    sides = []
    try:
        for name, path in (("candidate", candidate), ("baseline", baseline)):
            found = open_model(Request(model=path), session.folder)
            signature = inputs.pin(making.describe(session, found).signature, [])
            found = found.with_signature(signature)
            feeds = session.folder / f"{name}.npz"
            tensors.write(feeds, SampleSource().make(found.ends())[1:2])
            side = latency.Side(session, Subject.of(found), feeds, name).__enter__()
            sides.append(side)
            side.start()
        plan = latency.Plan(seconds=seconds, ratio_limit=LIMIT, seed=seed)
        found_latency = latency.measure(sides[0], sides[1], plan)
    finally:
        for side in sides:
            side.__exit__()
    spent = float(found_latency.machine["seconds"])
    gate = ratio_gate(found_latency.ratio, LIMIT, spent)
    ratio = found_latency.ratio.value if found_latency.ratio else float("nan")
    return gate.verdict.value, ratio, spent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0, help="budget of one run")
    parser.add_argument("--quiet-machine", action="store_true", help="without the other work")
    chosen = parser.parse_args()
    cores = os.cpu_count() or 1
    wrong = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        Store() as store,
        Session(store) as session,
        neighbours(0 if chosen.quiet_machine else cores),
    ):
        small = network(Path(folder) / "small.tflite", LAYERS)
        large = network(Path(folder) / "large.tflite", MORE)
        for words, candidate, right in (
            ("equal", small, "passed"),
            ("30 % slower", large, "failed"),
        ):
            verdicts: Counter[str] = Counter()
            ratios, took = [], []
            for seed in range(chosen.runs):
                begun = time.perf_counter()
                verdict, ratio, spent = once(session, candidate, small, chosen.seconds, seed)
                verdicts[verdict] += 1
                ratios.append(ratio)
                took.append(spent)
                sys.stdout.write(
                    f"  {words} {seed}: {verdict}, {ratio:.3f}, {spent:.1f} s"
                    f" of {time.perf_counter() - begun:.1f} s\n"
                )
                sys.stdout.flush()
            wrong += chosen.runs - verdicts[right]
            sys.stdout.write(
                f"{words}: {dict(verdicts)} of {chosen.runs}; ratio {np.median(ratios):.3f}"
                f" ({min(ratios):.3f} to {max(ratios):.3f}); {np.median(took):.1f} s a run"
                f" (at most {max(took):.1f} s); load {os.getloadavg()[0]:.1f} on {cores} cores\n"
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
