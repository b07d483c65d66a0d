"""The same bundle on several boards: how far their outputs are from each other, and from where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgepipe.devices.inventory import Device
from edgepipe.devices.layer_differences import Explained, explain
from edgepipe.devices.merging import entry
from edgepipe.devices.running import Asked, Result, Told, run_all
from edgepipe.errors import EdgepipeError

SCHEMA = 1


@dataclass(frozen=True)
class Pair:
    """One model on a board beside the same on the first board."""

    model: str
    base: str
    other: str
    elements: int
    differing: int
    most_steps: int | None
    """None where outputs are floats."""
    sqnr_db: float
    histogram: Mapping[int, int]
    same_answer: float | None
    """The share of samples whose largest element is the same one."""
    layers: Explained | None = None
    why_no_layers: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in (
                "model", "base", "other", "elements", "differing", "most_steps", "sqnr_db",
                "same_answer", "why_no_layers",
            )},
            "histogram": {str(steps): count for steps, count in self.histogram.items()},
            "layers": self.layers.to_json() if self.layers else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    results: tuple[Result, ...]
    pairs: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": "edgepipe comparison",
            "devices": [entry(result) for result in self.results],
            "pairs": [pair.to_json() for pair in self.pairs],
            "notes": list(self.notes),
        }


def compare(
    devices: Sequence[Device], bundle: Path, asked: Asked, into: Path, told: Told,
    layer_samples: int = 1,
) -> Comparison:  # fmt: skip
    """Run everywhere, then compare with the first; `layer_samples` of 0 leaves operators out."""
    results = run_all(devices, bundle, asked, into, told)
    ran = [result for result in results if result.document is not None]
    if not ran or ran[0].device.name != devices[0].name:
        return Comparison(tuple(results), notes=("the first board gave nothing to compare with",))
    pairs = []
    for model in ran[0].document["models"] if ran[0].document else ():
        for other in ran[1:]:
            pair = _pair(str(model["model"]), ran[0], other)
            if pair is not None:
                pairs.append(pair)
    if layer_samples:
        pairs = _explained(pairs, ran, bundle, asked, layer_samples, told)
    return Comparison(tuple(results), tuple(pairs))


def outputs_file(model: str) -> str:
    """Where the runner leaves what a model gave."""
    return f"outputs-{model.replace('/', '_')}.npz"


def _pair(model: str, base: Result, other: Result) -> Pair | None:
    name = outputs_file(model)
    if name not in base.files or name not in other.files:
        return None
    elements = differing = 0
    signal = noise = 0.0
    steps: int | None = 0
    histogram: dict[int, int] = {}
    with np.load(base.files[name]) as ours, np.load(other.files[name]) as theirs:
        for key in (key for key in ours.files if key != "names"):
            a, b = ours[key], theirs[key]
            far = np.abs(a.astype(np.float64) - b.astype(np.float64))
            elements += far.size
            differing += int(np.count_nonzero(far))
            signal += float(np.sum(a.astype(np.float64) ** 2))
            noise += float(np.sum(far**2))
            if a.dtype.kind not in "iu":
                steps = None
            elif steps is not None and far.size:
                steps = max(steps, int(far.max()))
                for size, count in zip(*np.unique(far, return_counts=True), strict=True):
                    histogram[int(size)] = histogram.get(int(size), 0) + int(count)
    return Pair(
        model, base.device.name, other.device.name, elements, differing, steps,
        _decibel(signal, noise), histogram if steps is not None else {},
        _same_answer(model, base, other),
    )  # fmt: skip


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return 200.0
    return float(np.clip(10 * np.log10(signal / noise), -200, 200)) if signal else -200.0


def _same_answer(model: str, base: Result, other: Result) -> float | None:
    found = []
    for result in (base, other):
        assert result.document is not None
        (one,) = [each for each in result.document["models"] if each["model"] == model]
        found.append(one.get("answers") or [])
    pairs = [(a, b) for a, b in zip(*found, strict=False) if a >= 0 and b >= 0]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def _explained(
    pairs: list[Pair], ran: Sequence[Result], bundle: Path, asked: Asked, samples: int, told: Told,
) -> list[Pair]:  # fmt: skip
    """Operators of the models whose outputs differ; of others there is nothing to explain."""
    from dataclasses import replace

    manifest = _manifest(bundle)
    models = {model["name"]: model for model in manifest["models"]}
    count = min(samples, int(manifest["samples"]["count"]))
    told_of: dict[str, dict[str, Explained] | str] = {}
    for name in dict.fromkeys(pair.model for pair in pairs if pair.differing):
        model = models[name]
        if model["form"] != "tflite" or model.get("encrypted"):
            told_of[name] = "operators are looked at in TFLite models that aren't encrypted"
            continue
        able = [each for each in ran if outputs_file(name) in each.files]
        try:
            plain = {each.device.name: each.files[outputs_file(name)] for each in able}
            devices = [each.device for each in able]
            told_of[name] = explain(devices, bundle, model, asked, count, told, plain)
        except EdgepipeError as error:
            told_of[name] = error.message
    found = []
    for pair in pairs:
        seen = told_of.get(pair.model, "")
        if isinstance(seen, str):
            found.append(replace(pair, why_no_layers=seen if pair.differing else ""))
        else:
            found.append(replace(pair, layers=seen[pair.other]))
    return found


def _manifest(bundle: Path) -> dict[str, Any]:
    import zipfile

    with zipfile.ZipFile(bundle) as archive:
        found: dict[str, Any] = json.loads(archive.read("manifest.json"))
        return found
