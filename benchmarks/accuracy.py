"""Measures what int8 costs trained models on data with labels, edgepipe's beside the raw tools'.

    python benchmarks/accuracy.py FOLDER [NAME ...] [--json FILE] [--keep FOLDER]

Needs all toolchains; fetches nothing. FOLDER has a folder for each package (trained.py says
which); a model whose packages are absent is named with the commands that fetch them.

For each model one row for its float TFLite, one for edgepipe's int8 and one for each raw tool:
accuracy on samples that nothing was learnt from, on how many of them only the float model or
only the integers are right, and the signal-to-noise ratio of the outputs over all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import raw_tools
import trained
from numpy.typing import NDArray

import edgepipe

EXPECTED_DROP = 0.5
"""Points that int8 may cost; half of what the best raw tool loses where that is less."""


@dataclass(frozen=True)
class Row:
    """One file of one model, or why there is none."""

    model: str
    way: str
    samples: int
    seconds: float = 0.0
    accuracy: float | None = None
    drop: float = 0.0
    float_only: int = 0
    integers_only: int = 0
    agreement: float = 0.0
    sqnr_db: float = 0.0
    said: str = ""

    @property
    def chance(self) -> float:
        """Points to either side within which the drop lies 95 times of 100 (McNemar)."""
        apart = self.float_only + self.integers_only
        spread = math.sqrt(
            max(apart - (self.float_only - self.integers_only) ** 2 / self.samples, 0)
        )
        return 100 * 1.96 * spread / self.samples

    def cells(self) -> tuple[str, ...]:
        if self.accuracy is None:
            return (self.model, self.way, f"{self.seconds:.0f}", *[""] * 5, self.said)
        return (
            self.model,
            self.way,
            f"{self.seconds:.0f}",
            f"{self.accuracy:.2f}",
            f"{self.drop:+.2f}" + ("" if self.way == FLOAT else f" ± {self.chance:.2f}"),
            f"{self.float_only} / {self.integers_only}",
            f"{self.agreement:.2f}",
            "" if self.way == FLOAT else f"{self.sqnr_db:.1f}",
            self.said,
        )


FLOAT, EDGEPIPE = "float", "edgepipe"
HEADER = (
    "model",
    "made by",
    "s",
    "accuracy %",
    "lost",
    "only float / only int8 right",
    "same answer %",
    "dB",
    "what is said",
)


def sqnr(plain: NDArray[np.float32], integers: NDArray[np.float32]) -> float:
    noise = float(np.sum((plain - integers).astype(np.float64) ** 2))
    return 10 * float(np.log10(np.sum(plain.astype(np.float64) ** 2) / max(noise, 1e-30)))


def compare(
    row: Row, plain: NDArray[np.float32], integers: NDArray[np.float32], labels: NDArray[np.int64]
) -> Row:
    """The figures of one file against the float model's, on the same samples."""
    before, after = plain.argmax(1), integers.argmax(1)
    right_before, right_after = before == labels, after == labels
    return Row(
        row.model,
        row.way,
        len(labels),
        row.seconds,
        accuracy=100 * float(right_after.mean()),
        drop=100 * float(right_before.mean() - right_after.mean()),
        float_only=int(np.sum(right_before & ~right_after)),
        integers_only=int(np.sum(~right_before & right_after)),
        agreement=100 * float((before == after).mean()),
        sqnr_db=sqnr(plain, integers),
        said=row.said,
    )


def measure(model: trained.Trained, packages: Path, folder: Path) -> list[Row]:
    """All rows of a model; the float one is first."""
    folder.mkdir(parents=True, exist_ok=True)
    data = model.data(packages, folder)
    path = model.model(packages, folder, data)
    calibration, held_out = folder / "calibration.npz", folder / "held_out.npz"
    np.savez(calibration, x=data.calibration)
    np.savez(held_out, x=data.held_out)
    empty = Row(model.name, FLOAT, len(data.labels))

    float32 = edgepipe.convert(path, out=folder / "float32")
    plain = raw_tools.answers(float32.model, held_out, folder)
    rows = [compare(empty, plain, plain, data.labels)]
    rows.append(measure_edgepipe(model.name, path, folder, plain, data))
    for tool in raw_tools.tools_for(path):
        rows.append(measure_tool(tool, model.name, path, folder, plain, data.labels))
    return rows


def measure_edgepipe(
    name: str, model: Path, folder: Path, plain: NDArray[np.float32], data: trained.Data
) -> Row:
    """Its int8 on its defaults: a fifth of the calibration samples is held out for its proof."""
    samples = folder / "calibration.npy"  # one array for the one input, whatever its name
    np.save(samples, data.calibration)
    row = Row(name, EDGEPIPE, len(data.labels))
    start = time.perf_counter()
    try:
        result = edgepipe.convert(
            model, precision="int8", calibration=samples, out=folder / "edgepipe"
        )
    except edgepipe.EdgepipeError as error:
        said = error.message.replace("\n", " ").replace("|", "/")[:300]
        return replace(row, seconds=time.perf_counter() - start, said=said)
    row = replace(row, seconds=time.perf_counter() - start, said=result.route)
    integers = raw_tools.answers(result.model, folder / "held_out.npz", folder)
    return compare(row, plain, integers, data.labels)


def measure_tool(
    tool: raw_tools.Tool,
    name: str,
    model: Path,
    folder: Path,
    plain: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> Row:
    """What a raw tool makes of the same model and the same calibration samples."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            made = tool.make(model, folder / "calibration.npz", Path(scratch))
            seconds = time.perf_counter() - start
            integers = raw_tools.answers(made, folder / "held_out.npz", Path(scratch))
        except raw_tools.ToolFailed as error:
            said = str(error).replace("|", "/")
            return Row(name, tool.name, len(labels), time.perf_counter() - start, said=said)
    return compare(Row(name, tool.name, len(labels), seconds), plain, integers, labels)


def reached(rows: list[Row]) -> bool:
    """Is what edgepipe lost within the bound?"""
    own = next(row for row in rows if row.way == EDGEPIPE)
    if own.accuracy is None:
        return False
    raw = [
        row.drop for row in rows if row.way not in (FLOAT, EDGEPIPE) and row.accuracy is not None
    ]
    bound = min([EXPECTED_DROP, *(max(drop, 0) / 2 for drop in raw)])
    return own.drop <= bound


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with a folder for each package")
    parser.add_argument("names", nargs="*", help="models; default: all whose packages are there")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--keep", type=Path, help="keep models and results in this folder")
    flags = parser.parse_args()
    known = [model.name for model in trained.MODELS]
    unknown = set(flags.names) - set(known)
    if unknown:
        parser.error(f"unknown models: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    wanted = [model for model in trained.MODELS if not flags.names or model.name in flags.names]
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER), flush=True)
    every: list[Row] = []
    within: list[bool] = []
    absent: list[str] = []
    with tempfile.TemporaryDirectory(prefix="edgepipe-accuracy-") as scratch:
        keep = (flags.keep or Path(scratch)).absolute()
        os.environ["EDGEPIPE_STORE"] = str(keep / "store")
        for model in wanted:
            lacking = model.lacking(flags.folder)
            if lacking:
                absent += [f"{model.name} was left out: {how}" for how in lacking]
                continue
            rows = measure(model, flags.folder.absolute(), keep / model.name)
            for row in rows:
                print("| " + " | ".join(row.cells()) + " |", flush=True)
            every += rows
            within.append(reached(rows))
    if flags.json:
        flags.json.write_text(json.dumps([asdict(row) for row in every], indent=1) + "\n")
    print(f"\n{sum(within)} of {len(within)} within the bound")
    print(*absent, sep="\n")
    return 0 if within and all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
