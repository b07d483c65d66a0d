"""Converts networks for the Edge TPU, as far as its compiler, and prints what is foretold of them.

    python benchmarks/edgetpu_legal.py [NAME ...] [--trained FOLDER] [--json FILE] [--keep FOLDER]

Needs all toolchains, not the compiler. The networks of the zoo have random weights and are
calibrated on made pictures, so their decibels say little; the mapping doesn't depend on them.
`--trained` is a folder that `benchmarks/accuracy.py --keep` left: a folder for each model, with
`model.*` and `calibration.npy`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import zoo_table
from model_data import pictures
from zoo_int8 import fed

import edgepipe
from edgepipe.targets.edgetpu import op_releases
from edgepipe.targets.edgetpu.preflight import preflight
from edgepipe.tflite import loading

ATTENTION = ("vit_tiny_patch16_224",)
"""Networks that multiply activations with each other, which the chip can't."""
CALIBRATION = 16


@dataclass(frozen=True)
class Row:
    """What is foretold of one network, with a first break and with `-a`."""

    network: str
    seconds: float
    ops: int = 0
    mapped: int = 0
    mapped_with_a: int = 0
    newest: str = ""
    megabytes: float = 0.0
    sqnr_db: float | None = None
    rewrites: str = ""
    in_the_way: str = ""

    def cells(self) -> tuple[str, ...]:
        share = f"{self.mapped / self.ops:.1%}" if self.ops else "none"
        return (
            self.network,
            f"{self.seconds:.0f}",
            str(self.ops),
            share,
            f"{self.mapped_with_a / self.ops:.1%}" if self.ops else "",
            self.newest,
            f"{self.megabytes:.2f}",
            "" if self.sqnr_db is None else f"{self.sqnr_db:.0f}",
            self.rewrites,
            self.in_the_way,
        )


HEADER = (
    "network", "s", "ops", "mapped", "with -a", "newest release", "parameters, MiB", "dB",
    "rewrites for the chip", "in the way",
)  # fmt: skip


def measure(
    name: str, model: Path, calibration: Path, folder: Path, inputs: tuple[str, ...] = ()
) -> Row:
    start = time.perf_counter()
    try:
        result = edgepipe.convert(
            model,
            target="edgetpu",
            no_compile=True,
            calibration=calibration,
            inputs=inputs,
            repair="off",
            min_sqnr=0.0,
            out=folder / "edgetpu",
        )
    except edgepipe.EdgepipeError as error:
        said = error.message.replace("\n", " ").replace("|", "/")[:300]
        return Row(name, time.perf_counter() - start, in_the_way=said)
    seconds = time.perf_counter() - start
    found = preflight(result.model)
    with_a = preflight(result.model, multiple=True)
    left = Counter(f"{one.op}: {one.status}" for one in with_a.verdicts if not one.mapped)
    chosen = next(item for item in result.report["routes"] if item["status"] == "chosen")
    return Row(
        name,
        seconds,
        len(found.verdicts),
        found.mapped,
        with_a.mapped,
        newest(result.model),
        found.memory.parameters / 2**20,
        result.sqnr_db,
        ", ".join(rewrites(chosen["steps"])),
        "; ".join([*found.refused, *(f"{count} {what}" for what, count in left.items())]),
    )


def newest(path: Path) -> str:
    """The TensorFlow Lite release that its newest operator needs."""
    ops = loading.load(path).main.ops
    if not all(op_releases.readable(op.name, op.version) for op in ops):
        return "2.7 or later"
    late = {op.name for op in ops if not op_releases.certain(op.name, op.version)}
    return f"2.4 to 2.6 ({', '.join(sorted(late))})" if late else "2.3 or older"


def rewrites(steps: list[dict[str, object]]) -> list[str]:
    """Those that only this target has, with how often."""
    ours = {path.stem for path in Path(edgepipe.__file__).parent.glob("targets/edgetpu/legalise/*")}
    found = []
    for step in steps:
        for note in step["notes"]:  # type: ignore[attr-defined]
            name, _, said = str(note).partition(": ")
            if name in ours and said.endswith(")"):
                found.append(f"{name} {said[said.rindex('(') + 1 : -1].split(',')[0]}")
    return found


def of_zoo(network: str, keep: Path) -> list[Row]:
    folder = keep / f"{network}_edgetpu"
    folder.mkdir(exist_ok=True)
    model = zoo_table.network_file(network, keep)
    size = 299 if network == "Xception" else 224
    np.save(folder / "calibration.npy", fed(network, pictures(CALIBRATION, size, 0)))
    inputs = ("1x224x224x3",) if network == "MobileNetV3Small" else ()  # it leaves the size open
    return [measure(network, model, folder / "calibration.npy", folder, inputs)]


def of_trained(folder: Path, keep: Path) -> list[Row]:
    (model,) = (one for one in folder.glob("model.*") if one.suffix in (".keras", ".pt2"))
    made = keep / f"{folder.name}_edgetpu"
    return [measure(f"{folder.name} (trained)", model, folder / "calibration.npy", made)]


def main() -> int:
    parser = zoo_table.arguments(__doc__)
    parser.add_argument("--trained", type=Path, help="folder of trained models")
    flags = zoo_table.read(parser)
    jobs = [partial(of_zoo, name) for name in flags.names]
    if flags.trained:
        folders = sorted(one for one in flags.trained.iterdir() if (one / "float32").is_dir())
        jobs += [partial(of_trained, folder) for folder in folders]
    rows = zoo_table.show(flags, HEADER, jobs)
    wanted = [row for row in rows if row.network not in ATTENTION]
    full = sum(bool(row.ops) and row.mapped == row.ops for row in wanted)
    print(f"\n{full} of {len(wanted)} networks without attention foretold as mapped in full")
    return 0 if full == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
