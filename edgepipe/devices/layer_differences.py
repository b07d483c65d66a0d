"""Where two boards begin to differ: the first operator, and what each kernel adds of its own."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.devices import layer_models
from edgepipe.devices.board import Job
from edgepipe.devices.inventory import Device
from edgepipe.devices.layer_models import Layers, Row
from edgepipe.devices.running import BUNDLE, RUNNER, Asked, Told, runner_file, stopped
from edgepipe.devices.together import Together

SCRIPT = "board_layers.py"
OUT = "layers.npz"
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Difference:
    """Of one operator's results. `own` is with the first board's inputs fed on both."""

    place: int
    op: str
    name: str
    share: float
    most: float
    own_share: float | None
    own_most: float | None
    integers: bool
    starts: bool
    """Its inputs are the same on both boards, and its results are not."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Explained:
    """All operators of a model on a pair of boards."""

    rows: tuple[Difference, ...]
    samples: int
    note: str = ""

    @property
    def first(self) -> Difference | None:
        return next((row for row in self.rows if row.starts), None)

    def kinds(self) -> list[dict[str, Any]]:
        """By kind of operator: how many there are, and how many differ by their own kernel."""
        found: dict[str, list[Difference]] = {}
        for row in self.rows:
            found.setdefault(row.op, []).append(row)
        told = [
            {
                "op": op,
                "count": len(rows),
                "own": sum(bool(row.own_share) for row in rows),
                "most": max((row.own_most or 0.0 for row in rows), default=0.0),
            }
            for op, rows in found.items()
        ]
        return sorted(told, key=lambda row: (-float(row["own"]), str(row["op"])))

    def to_json(self) -> dict[str, Any]:
        first = self.first
        return {
            "samples": self.samples,
            "note": self.note,
            "first": first.to_json() if first else None,
            "kinds": self.kinds(),
            "rows": [row.to_json() for row in self.rows],
        }


def explain(
    devices: Sequence[Device], bundle: Path, model: Mapping[str, Any], asked: Asked,
    samples: int, told: Told, plain: Mapping[str, Path],
) -> dict[str, Explained]:  # fmt: skip
    """For each board but the first: its operators beside those of the first.

    `plain` has what each board gave when the model was run as it is.
    """
    with tempfile.TemporaryDirectory(prefix="edgepipe-layers-") as scratch:
        folder = Path(scratch)
        file = folder / "model.tflite"
        with zipfile.ZipFile(bundle) as archive:
            file.write_bytes(archive.read(model["files"]["model"]))
        layers = layer_models.write(file, folder)
        run = _Runs(bundle, str(model["name"]), asked, samples, told)
        whole = run.everywhere(devices, layers.probe, None, folder / "probe")
        apart: dict[str, Path] = {}
        if layers.apart is not None:
            apart = run.everywhere(devices, layers.apart, whole[devices[0].name], folder / "apart")
        first = devices[0].name
        note = " ".join(filter(None, (layers.why, _unlike(whole, plain, model, samples))))
        with np.load(whole[first]) as base:
            return {
                device.name: _compared(layers, base, whole, apart, device.name, samples, note)
                for device in devices[1:]
            }


def _unlike(
    whole: Mapping[str, Path], plain: Mapping[str, Path], model: Mapping[str, Any], samples: int
) -> str:
    """Where showing a tensor changes the numbers, for instance since less is fused, it is said."""
    names = []
    for board, path in whole.items():
        with np.load(path) as shown, np.load(plain[board]) as usual:
            for at, end in enumerate(model["outputs"]):
                rows = [shown[f"{n}:{end['tensor']}"] for n in range(samples)]
                if not all(
                    np.array_equal(a, b) for a, b in zip(rows, usual[f"o{at}"], strict=False)
                ):
                    names.append(board)
    listed = ", ".join(dict.fromkeys(names))
    return f"With its tensors shown, the model gives other numbers on {listed}." if names else ""


def _compared(
    layers: Layers, base: Arrays, whole: Mapping[str, Path], apart: Mapping[str, Path],
    name: str, samples: int, note: str,
) -> Explained:  # fmt: skip
    with np.load(whole[name]) as other:
        own = np.load(apart[name]) if name in apart else None
        rows = tuple(_difference(row, base, other, own, samples) for row in layers.rows)
        return Explained(rows, samples, note)


def _difference(
    row: Row, base: Arrays, other: Arrays, own: Arrays | None, samples: int
) -> Difference:
    same = all(
        np.array_equal(base[f"{n}:{name}"], other[f"{n}:{name}"])
        for n in range(samples)
        for name in row.inputs
    )
    share, most, integers = _distance(row, base, other, samples)
    own_share, own_most = (None, None)
    if own is not None:
        own_share, own_most, _ = _distance(row, base, own, samples)
    starts = same and share > 0
    return Difference(
        row.place, row.op, row.name, share, most, own_share, own_most, integers, starts
    )


def _distance(row: Row, base: Arrays, other: Arrays, samples: int) -> tuple[float, float, bool]:
    """The share of elements that differ, and the most: in steps, or relative to the largest."""
    count = differing = 0
    most, integers = 0.0, True
    for n in range(samples):
        for name in row.outputs:
            a, b = base[f"{n}:{name}"], other[f"{n}:{name}"]
            integers = integers and a.dtype.kind in "iu"
            wide = np.int64 if a.dtype.kind in "iub" else np.float64
            far = np.abs(a.astype(wide) - b.astype(wide))
            count += far.size
            differing += int(np.count_nonzero(far))
            if far.size:
                scale = 1.0 if a.dtype.kind in "iub" else float(np.abs(a).max()) or 1.0
                most = max(most, float(far.max()) / scale)
    return differing / max(1, count), most, integers


@dataclass(frozen=True)
class _Runs:
    """One job a board, all at once."""

    bundle: Path
    model: str
    asked: Asked
    samples: int
    told: Told

    def everywhere(
        self, devices: Sequence[Device], file: Path, feeds: Path | None, into: Path
    ) -> dict[str, Path]:
        together = Together()
        made = together.each(
            lambda device: self._one(device, file, feeds, into / device.name, together), devices
        )
        return {device.name: path for device, path in zip(devices, made, strict=True)}

    def _one(
        self, device: Device, file: Path, feeds: Path | None, into: Path, together: Together
    ) -> Path:
        files = {
            SCRIPT: Path(__file__).with_name(SCRIPT),
            RUNNER: runner_file(),
            BUNDLE: self.bundle,
            "layers.tflite": file,
        }
        if feeds is not None:
            files["feeds.npz"] = feeds
        words = [word for word in self.asked.words(device) if word != "--keep-tensors"]
        job = Job(
            script=SCRIPT,
            arguments=(
                BUNDLE, self.model, "layers.tflite", str(self.samples),
                "feeds.npz" if feeds else "", *words,
            ),
            files=files,
            results=(OUT,),
            seconds=self.asked.seconds,
            secrets=self.asked.secrets(),
        )  # fmt: skip
        self.told(device.name, "note", {"words": f"every operator of {self.model}"})
        with together.board(device) as board:
            done = board.run(job, into, lambda line: None, lambda words: None)
        if OUT not in done.results:
            raise stopped(device, done)
        return done.results[OUT]
