"""Runs int8 networks of the zoo on emulated Arms beside this machine, with each kind of kernel.

    python benchmarks/emulated.py [NAME ...] [--json FILE] [--keep FOLDER]

MobileNetV2 where none is named. A row says how many outputs differ from this machine's with the
same kernels, at which operator that starts, and which kernels differ when all are fed the same.
Seconds are those of the board's whole run, and say nothing of a real one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import zoo_table
from model_data import pictures
from zoo_int8 import CALIBRATION, fed

import edgepipe
from edgepipe.devices import comparison, emulated_machine
from edgepipe.devices.inventory import HOST, Device
from edgepipe.devices.running import Asked, Result

SAMPLES = 8
MODEL = "model_int8.tflite"
BOARDS = (
    Device("Cortex-A53", "emulated", machine="aarch64", cpu="cortex-a53"),
    Device("Cortex-A76", "emulated", machine="aarch64", cpu="cortex-a76"),
    Device("Cortex-A7", "emulated", machine="armv7", cpu="cortex-a7"),
)
KERNELS = ("xnnpack", "none", "reference")
HEADER = ("network", "board", "kernels", "s", "outputs differ", "steps", "same answers",
          "starts at", "kernels that differ")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One network on one board with one kind of kernel, beside this machine with the same."""

    network: str
    board: str
    kernels: str
    seconds: float
    share: float | None = None
    steps: int | None = None
    same: float | None = None
    starts: str = ""
    differing: str = ""

    def cells(self) -> tuple[str, ...]:
        start = (self.network, self.board, self.kernels, f"{self.seconds:.0f}")
        if self.share is None:
            return (*start, "failed", "", "", self.starts, "")
        same = "" if self.same is None else f"{self.same:.0%}"
        return (*start, f"{self.share:.1%}", str(self.steps), same, self.starts, self.differing)


def measure(network: str, keep: Path) -> Iterator[Row]:
    folder = keep / f"{network}_emulated"
    folder.mkdir(exist_ok=True)
    for name, count, seed in (("calibration", CALIBRATION, 0), ("held_out", SAMPLES, 1)):
        np.save(folder / f"{name}.npy", fed(network, pictures(count, 224, seed)))
    edgepipe.convert(
        zoo_table.network_file(network, keep),
        precision="int8",
        calibration=folder / "calibration.npy",
        out=folder / "out",
    )
    bundle = edgepipe.bundle(
        folder / "out",
        data=folder / "held_out.npy",
        path=folder / f"{network}.edgebundle",
        samples=SAMPLES,
    )
    for kernels in KERNELS:
        asked = Asked(delegate=kernels, only=(MODEL,), latency=False)
        found = comparison.compare(
            [Device(HOST, "local"), *BOARDS], bundle.path, asked, folder / "results",
            lambda name, event, facts: None,
        )  # fmt: skip
        pairs = {pair.other: pair for pair in found.pairs}
        for result in found.results[1:]:
            board = result.device.name
            row = Row(network, board, kernels, result.seconds)
            yield _row(row, pairs[board]) if board in pairs else _failed(row, result)


def _row(row: Row, pair: comparison.Pair) -> Row:
    seen = pair.layers
    first = seen.first if seen else None
    kinds = [f"{kind['own']} of {kind['count']} {kind['op']}"
             for kind in (seen.kinds() if seen else ()) if kind["own"]]  # fmt: skip
    return Row(
        row.network, row.board, row.kernels, row.seconds,
        pair.differing / pair.elements, pair.most_steps, pair.same_answer,
        f"{first.place}, {first.op}" if first else "", ", ".join(kinds),
    )  # fmt: skip


def _failed(row: Row, result: Result) -> Row:
    said = result.error.message if result.error else "it could not run the model"
    return Row(row.network, row.board, row.kernels, row.seconds, starts=said[:200])


def main() -> int:
    parser = zoo_table.arguments(__doc__)
    flags = parser.parse_args()
    flags.names = flags.names or ["MobileNetV2"]
    for name in {board.machine for board in BOARDS}:
        emulated_machine.make(emulated_machine.spec(name))
    rows = zoo_table.show(flags, HEADER, [partial(measure, name) for name in flags.names])
    return 0 if all(row.share is not None for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
