"""Quantizes the networks of the zoo to int8, edgepipe's beside the raw tools', as a table.

    python benchmarks/zoo_int8.py [NAME ...] [--json FILE] [--keep FOLDER]

Needs all toolchains. All ways are given the same calibration images and judged on others, against
the same float TFLite: signal to noise over all outputs, and over what is left of them when each
output's mean over the images is taken away. Networks with random weights answer nearly the same
to every image, so the first figure alone flatters. The images have large and small shapes, since
white noise drives such a network into a corner that photographs never reach.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import raw_tools
import zoo
import zoo_table
from accuracy import sqnr
from model_data import pictures
from numpy.typing import NDArray

import edgepipe

CALIBRATION, HELD_OUT = 64, 32
TAKES_PIXELS = ("MobileNetV3Small", "EfficientNetB0", "ConvNeXtTiny")
"""They hold their own preprocessing; the others of Keras take -1 to 1, timm's about -2 to 2."""
LIMIT_DB = 20.0
EDGEPIPE = "edgepipe"


@dataclass(frozen=True)
class Row:
    """One int8 file of one network, or why there is none."""

    network: str
    way: str
    seconds: float
    sqnr_db: float | None = None
    varying_db: float = 0.0
    said: str = ""

    def cells(self) -> tuple[str, ...]:
        found = self.sqnr_db is not None
        return (
            self.network,
            self.way,
            f"{self.seconds:.0f}",
            f"{self.sqnr_db:.1f}" if found else "none",
            f"{self.varying_db:.1f}" if found else "",
            self.said,
        )


HEADER = ("network", "made by", "s", "dB", "dB of what varies", "what is said")


def fed(network: str, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pictures as the network takes them."""
    if network in TAKES_PIXELS:
        return pictures * 255
    if network in zoo.KERAS:
        return pictures * 2 - 1
    channels_first = (pictures - 0.45).transpose(0, 3, 1, 2) / 0.225
    found: NDArray[np.float32] = channels_first.astype(np.float32)
    return found


def compare(row: Row, plain: NDArray[np.float32], integers: NDArray[np.float32]) -> Row:
    varying = sqnr(plain - plain.mean(0), integers - integers.mean(0))
    return Row(row.network, row.way, row.seconds, sqnr(plain, integers), varying, row.said)


def measure(network: str, keep: Path) -> list[Row]:
    """All rows of a network; edgepipe's is first."""
    folder = keep / f"{network}_int8"
    folder.mkdir(exist_ok=True)
    model = zoo_table.network_file(network, keep)
    size = 299 if network == "Xception" else 224
    calibration, held_out = folder / "calibration.npz", folder / "held_out.npz"
    learnt = fed(network, pictures(CALIBRATION, size, 0))
    np.savez(calibration, x=learnt)
    np.save(folder / "calibration.npy", learnt)
    np.savez(held_out, x=fed(network, pictures(HELD_OUT, size, 1)))

    inputs = ("1x224x224x3",) if network == "MobileNetV3Small" else ()  # it leaves the size open
    float32 = edgepipe.convert(model, out=folder / "float32", inputs=inputs)
    plain = raw_tools.answers(float32.model, held_out, folder)
    rows = [measure_edgepipe(network, model, folder, plain, inputs)]
    for tool in raw_tools.tools_for(model):
        rows.append(measure_tool(tool, network, model, folder, plain))
    return rows


def measure_edgepipe(
    network: str, model: Path, folder: Path, plain: NDArray[np.float32], inputs: tuple[str, ...]
) -> Row:
    start = time.perf_counter()
    try:
        result = edgepipe.convert(
            model,
            precision="int8",
            calibration=folder / "calibration.npy",
            inputs=inputs,
            out=folder / "edgepipe",
        )
    except edgepipe.EdgepipeError as error:
        said = error.message.replace("\n", " ").replace("|", "/")[:300]
        return Row(network, EDGEPIPE, time.perf_counter() - start, said=said)
    seconds = time.perf_counter() - start
    chosen = next(item for item in result.report["routes"] if item["status"] == "chosen")
    tried = [note for note in chosen["steps"][-1]["notes"] if note.startswith("repair")]
    said = "; ".join([result.route, *tried]).replace("|", "/")
    integers = raw_tools.answers(result.model, folder / "held_out.npz", folder)
    return compare(Row(network, EDGEPIPE, seconds, said=said), plain, integers)


def measure_tool(
    tool: raw_tools.Tool, network: str, model: Path, folder: Path, plain: NDArray[np.float32]
) -> Row:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            made = tool.make(model, folder / "calibration.npz", Path(scratch))
            seconds = time.perf_counter() - start
            integers = raw_tools.answers(made, folder / "held_out.npz", Path(scratch))
        except raw_tools.ToolFailed as error:
            said = str(error).replace("|", "/")
            return Row(network, tool.name, time.perf_counter() - start, said=said)
    return compare(Row(network, tool.name, seconds), plain, integers)


def main() -> int:
    flags = zoo_table.read(zoo_table.arguments(__doc__))
    rows = zoo_table.show(flags, HEADER, [partial(measure, name) for name in flags.names])
    own = [row for row in rows if row.way == EDGEPIPE]
    good = sum(row.sqnr_db is not None and row.sqnr_db >= LIMIT_DB for row in own)
    print(f"\n{good} of {len(own)} at {LIMIT_DB:g} dB or better")
    return 0 if good == len(own) else 1


if __name__ == "__main__":
    sys.exit(main())
