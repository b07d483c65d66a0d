"""Takes the networks of the zoo to OpenVINO in int8, beside NNCF's plain result, as a table.

    python benchmarks/openvino_zoo.py [NAME ...] [--json FILE] [--keep FOLDER]

Needs all toolchains. Both are given the same float IR and calibration images, and are judged on
others, as in zoo_int8. Latency is of one request on this CPU with two threads; the three models
take turns, and ratios are of medians in the same run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import raw_tools
import zoo_table
from accuracy import sqnr
from model_data import pictures
from numpy.typing import NDArray
from zoo_int8 import CALIBRATION, HELD_OUT, LIMIT_DB, fed

import edgepipe

NNCF = """
import sys, numpy, openvino, nncf
path, out, data = sys.argv[1:]
model = openvino.Core().read_model(path)
samples = [one[None] for one in numpy.load(data)["x"]]
made = nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples))
openvino.save_model(made, out, compress_to_fp16=False)
"""
COMPARE = """
import sys, time, json, numpy, openvino
*paths, data, out = sys.argv[1:]
core = openvino.Core()
settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 2,
            "INFERENCE_PRECISION_HINT": "f32"}
made = [core.compile_model(path, "CPU", settings).create_infer_request() for path in paths]
samples = [one[None] for one in numpy.load(data)["x"]]
answers = []
for one in made:
    outputs = []
    for sample in samples:
        one.infer([sample])
        outputs.append(one.get_output_tensor(0).data.copy().reshape(-1))
    answers.append(outputs)
times = [[] for _ in made]
start = time.perf_counter()
while time.perf_counter() - start < 6 or len(times[0]) < 10:
    for one, seen in zip(made, times):
        began = time.perf_counter()
        one.infer([samples[0]])
        seen.append(time.perf_counter() - began)
numpy.savez(out, answers=numpy.array(answers), times=numpy.array(times))
"""


@dataclass(frozen=True)
class Row:
    """One network, or why there is nothing of it."""

    network: str
    seconds: float
    sqnr_db: float | None = None
    varying_db: float = 0.0
    plain_db: float = 0.0
    float_ms: float = 0.0
    to_float: float = 0.0
    """Latency of edgepipe's int8 to that of float, and to NNCF's int8."""
    to_plain: float = 0.0
    said: str = ""

    def cells(self) -> tuple[str, ...]:
        if self.sqnr_db is None:
            return (self.network, f"{self.seconds:.0f}", "none", *[""] * 5, self.said)
        return (
            self.network,
            f"{self.seconds:.0f}",
            f"{self.sqnr_db:.1f}",
            f"{self.varying_db:.1f}",
            f"{self.plain_db:.1f}",
            f"{self.float_ms:.1f}",
            f"{self.to_float:.2f}",
            f"{self.to_plain:.2f}",
            self.said,
        )


HEADER = (
    "network", "s", "dB", "dB of what varies", "NNCF's dB", "float, ms", "int8 to float",
    "int8 to NNCF's", "what is said",
)  # fmt: skip


def measure(network: str, keep: Path) -> Iterator[Row]:
    folder = keep / f"{network}_openvino"
    folder.mkdir(exist_ok=True)
    model = zoo_table.network_file(network, keep)
    size = 299 if network == "Xception" else 224
    learnt = fed(network, pictures(CALIBRATION, size, 0))
    np.save(folder / "calibration.npy", learnt)
    np.savez(folder / "calibration.npz", x=learnt)
    np.savez(folder / "held_out.npz", x=fed(network, pictures(HELD_OUT, size, 1)))
    start = time.perf_counter()
    try:
        result = edgepipe.convert(
            model,
            target="openvino",
            precision="int8",
            calibration=folder / "calibration.npy",
            inputs=("1x224x224x3",) if network == "MobileNetV3Small" else (),
            out=folder / "edgepipe",
        )
    except edgepipe.EdgepipeError as error:
        said = error.message.replace("\n", " ").replace("|", "/")[:300]
        yield Row(network, time.perf_counter() - start, said=said)
        return
    seconds = time.perf_counter() - start
    chosen = next(item for item in result.report["routes"] if item["status"] == "chosen")
    tried = [note for note in chosen["steps"][-1]["notes"] if note.startswith("repair")]
    said = "; ".join([result.route, *tried]).replace("|", "/")
    yield compare(Row(network, seconds, said=said), result, folder)


def compare(row: Row, result: edgepipe.Result, folder: Path) -> Row:
    plain = result.folder / "openvino" / "model.xml"
    own = result.model / "model.xml"
    nncf, seen = folder / "nncf" / "model.xml", folder / "seen.npz"
    nncf.parent.mkdir(exist_ok=True)
    raw_tools.call("openvino", NNCF, plain, nncf, folder / "calibration.npz")
    raw_tools.call("openvino", COMPARE, plain, nncf, own, folder / "held_out.npz", seen)
    with np.load(seen) as found:
        reference, raw, ours = found["answers"]
        medians = np.median(found["times"], axis=1)
        to_float = np.median(found["times"][2] / found["times"][0])
        to_plain = np.median(found["times"][2] / found["times"][1])
    return Row(
        row.network,
        row.seconds,
        sqnr(reference, ours),
        sqnr(_varying(reference), _varying(ours)),
        sqnr(reference, raw),
        float(medians[0] * 1000),
        float(to_float),
        float(to_plain),
        row.said,
    )


def _varying(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = answers - answers.mean(0)
    return found


def main() -> int:
    flags = zoo_table.read(zoo_table.arguments(__doc__))
    rows = zoo_table.show(flags, HEADER, [partial(measure, name) for name in flags.names])
    good = sum(row.sqnr_db is not None and row.sqnr_db >= LIMIT_DB for row in rows)
    print(f"\n{good} of {len(rows)} at {LIMIT_DB:g} dB or better")
    return 0 if good == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
