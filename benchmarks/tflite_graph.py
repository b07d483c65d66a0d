"""Measures reading and writing a TFLite model of 100 MB with the graph library: time and memory.

python benchmarks/tflite_graph.py [FILE.tflite]
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAYERS, WIDTH = 25, 1024
SECONDS = 1.0
FILES_IN_MEMORY = 2.0

MEASURE = """
import re, sys, time
from pathlib import Path
from edgepipe.tflite import loading, saving

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

before, start = peak(), time.perf_counter()
model = loading.load(Path(sys.argv[1]))
read = time.perf_counter()
saving.save(model, Path(sys.argv[2]))
print(read - start, time.perf_counter() - read, peak() - before)
"""


def make(path: Path) -> None:
    """Dense layers of random weights, no two of them equal."""
    import numpy as np

    from edgepipe.tflite import saving
    from edgepipe.tflite.graph import Graph, Model, Op, Tensor

    random = np.random.default_rng(0)
    first = last = Tensor("x", (1, WIDTH))
    ops = []
    for number in range(LAYERS):
        values = random.standard_normal((WIDTH, WIDTH), dtype=np.float32)
        made = Tensor(f"h{number}", (1, WIDTH))
        ops.append(
            Op.make("FULLY_CONNECTED", [last, Tensor.constant(f"w{number}", values), None], [made])
        )
        last = made
    saving.save(Model([Graph("main", [], ops, [first], [last])]), path)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="edgepipe-bench-") as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "large.tflite"
        if not path.exists():
            make(path)
        size = path.stat().st_size
        rows = []
        for _ in range(5):
            done = subprocess.run(
                [sys.executable, "-c", MEASURE, str(path), f"{folder}/out.tflite"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            rows.append([float(number) for number in re.findall(r"[\d.e-]+", done.stdout)])
            time.sleep(0.1)
    read, write, memory = (sorted(column)[2] for column in zip(*rows, strict=True))
    reached = max(read, write) <= SECONDS and memory <= FILES_IN_MEMORY * size
    print(
        f"TFLite of {size / 1e6:.0f} MB: read {read:.2f} s, write {write:.2f} s (promised: 1 s "
        f"each), memory {memory / size:.2f} times the file (promised: 2)  "
        f"{'reached' if reached else 'NOT'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
