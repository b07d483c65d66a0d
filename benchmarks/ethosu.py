"""Compiles the networks of the zoo for three Ethos-U configurations, as a table.

    python benchmarks/ethosu.py [NAME ...] [--json FILE] [--keep FOLDER]

Needs all toolchains but tflite-micro. The networks have drawn weights and are calibrated on noise:
what is looked at is where operators run and what they take, not accuracy. Times are Vela's
estimates for the boards that it takes by itself.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import zoo
import zoo_table

import edgepipe

ACCELERATORS = ("ethos-u55-256", "ethos-u65-512", "ethos-u85-512")
SAMPLES = 4


@dataclass(frozen=True)
class Row:
    """One network on one accelerator, or why there is none."""

    network: str
    accelerator: str
    seconds: float
    ops: int = 0
    on_npu: int = 0
    sram: int = 0
    flash: int = 0
    milliseconds: float = 0.0
    said: str = ""

    def cells(self) -> tuple[str, ...]:
        if not self.ops:
            return self.network, self.accelerator, "none", "", "", "", self.said
        return (
            self.network,
            self.accelerator,
            f"{self.on_npu} of {self.ops}",
            f"{self.sram / 1024:,.0f}",
            f"{self.flash / 2**20:.1f}",
            f"{self.milliseconds:.1f}",
            self.said,
        )


HEADER = (
    "network", "accelerator", "ops on the NPU", "SRAM, KiB", "flash, MiB", "estimated ms",
    "what is said",
)  # fmt: skip


def measure(network: str, accelerator: str, folder: Path) -> Row:
    model = folder / f"{network}_tflite" / "model_float32.tflite"
    if not model.exists():
        zoo.convert(network, folder)
    start = time.perf_counter()
    try:
        result = edgepipe.convert(
            model,
            target=accelerator,
            calibration="random",
            limit=SAMPLES,
            repair="off",
            min_sqnr=0,
            out=folder / f"{network}_{accelerator}",
        )
    except edgepipe.EdgepipeError as error:
        reason = error.message.replace("\n", " ").replace("|", "/")
        return Row(network, accelerator, time.perf_counter() - start, said=reason[:300])
    chosen = next(item for item in result.report["routes"] if item["status"] == "chosen")
    return row_of(
        network, accelerator, time.perf_counter() - start, chosen["steps"][-1]["summary"]["ethosu"]
    )


def row_of(network: str, accelerator: str, seconds: float, found: dict[str, Any]) -> Row:
    left = Counter(one["op"] for one in found["fallbacks"])
    said = [f"{count} {op} on the CPU" for op, count in left.items()]
    said += [note.partition(":")[0].replace("_", " ") for note in found["rewritten"]]
    return Row(
        network,
        accelerator,
        seconds,
        found["ops"],
        found["on_npu"],
        found["sram_bytes"],
        found["file_bytes"],
        found["seconds"] * 1000,
        ", ".join(said),
    )


def of_network(network: str, keep: Path) -> Iterator[Row]:
    for accelerator in ACCELERATORS:
        yield measure(network, accelerator, keep)


def main() -> int:
    flags = zoo_table.read(zoo_table.arguments(__doc__))
    rows = zoo_table.show(flags, HEADER, [partial(of_network, name) for name in flags.names])
    full = sum(row.ops > 0 and row.on_npu == row.ops for row in rows)
    print(f"\n{full} of {len(rows)} on the NPU whole")
    return 0 if all(row.ops for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
