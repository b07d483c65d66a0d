"""`edgepipe estimate`: about how long an Edge TPU takes for a model, from a host's profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepipe.errors import LimitError, ModelNotFound, OptionError
from edgepipe.targets.edgetpu import host_profile, segments, workload
from edgepipe.targets.edgetpu.host_profile import HostProfile
from edgepipe.targets.edgetpu.memory import LARGEST_CACHE, MIB, SMALLEST_CACHE
from edgepipe.targets.edgetpu.preflight import of_model
from edgepipe.targets.edgetpu.segments import Segment
from edgepipe.targets.edgetpu.workload import Work
from edgepipe.tflite import loading
from edgepipe.tflite.graph import Graph, Model

CACHE = (SMALLEST_CACHE + LARGEST_CACHE) / 2 / MIB
"""MiB of parameters on the chip, in the middle of what real logs show."""
WORDS = "an estimate, not a measurement"


@dataclass(frozen=True)
class ModelEstimate:
    """Milliseconds with their band; sizes in MiB. `cpu` operators are not counted in the time."""

    model: str
    milliseconds: float
    least: float
    most: float
    cached: float
    streamed: float
    work: Work
    mapped: int
    cpu: int
    rate: float = 1.0

    @property
    def share(self) -> float:
        """Of a device's time, at its rate of inferences a second."""
        return self.milliseconds * self.rate / 1000


@dataclass(frozen=True)
class Estimate:
    """Of models in the order in which they should be compiled together, or of one in segments."""

    host: HostProfile
    models: tuple[ModelEstimate, ...]
    segments: tuple[Segment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "what": WORDS,
            "host": self.host.to_json(),
            "models": [asdict(one) for one in self.models],
            "segments": [asdict(one) for one in self.segments],
        }


def estimate(
    *models: str | Path,
    host: str = "usb3",
    segments: int = 1,
    rates: Sequence[float] = (),
) -> Estimate:
    """Of int8 TFLite files; several share the chip's memory, the most often run one first.

    `rates` are inferences a second, one for each model; `host` is a profile's name or file.
    """
    profile = host_profile.load(host)
    _check(models, segments, rates)
    loaded = [(Path(one).expanduser(), rate) for one, rate in
              zip(models, rates or [1.0] * len(models), strict=True)]  # fmt: skip
    if segments > 1:
        model = _load(loaded[0][0])
        found = _cut(model, segments, profile)
        return Estimate(profile, (_one(loaded[0][0], model, profile, CACHE, 1.0),), tuple(found))
    # A byte on the chip saves the same for each model, so the one that runs most often is first.
    left, estimates = CACHE, []
    read = [(path, _load(path), rate) for path, rate in loaded]
    read.sort(key=lambda one: (-one[2], workload.total(one[1].main.ops).parameters))
    for path, model, rate in read:
        estimates.append(_one(path, model, profile, left, rate))
        left = max(0.0, left - estimates[-1].cached)
    return Estimate(profile, tuple(estimates))


def _check(models: Sequence[str | Path], segments: int, rates: Sequence[float]) -> None:
    if not models:
        raise OptionError("estimate takes at least one model")
    if segments < 1 or (segments > 1 and len(models) > 1):
        raise OptionError(
            f"{segments} segments of {len(models)} models can't be estimated",
            hint="--segments takes a number from 1 on, and one model.",
        )
    if rates and (len(rates) != len(models) or min(rates) <= 0):
        raise OptionError(
            f"{len(models)} models want as many rates above 0, received {list(rates)}",
            hint="--rates 30,5",
        )


def _load(path: Path) -> Model:
    if not path.is_file():
        raise ModelNotFound(f"no file {str(path)!r}", hint="give an int8 .tflite file.")
    return loading.load(path)


def _one(
    path: Path, model: Model, profile: HostProfile, cache: float, rate: float
) -> ModelEstimate:
    found = of_model(model, name=path.name)
    graph = model.main
    chosen = {one.index for one in found.verdicts if one.mapped}
    if not chosen:
        why = "; ".join(found.refused) or "no operator is foretold as mapped"
        raise LimitError(
            f"{path.name}: nothing runs on the Edge TPU, so there is nothing to estimate: {why}",
            hint="`edgepipe preflight --fix` shows what can be done.",
        )
    work = workload.total([op for index, op in enumerate(graph.ops) if index in chosen])
    cached = min(work.parameters, cache)
    streamed = work.parameters - cached
    time = profile.milliseconds(work, streamed, _ends(graph))
    # What isn't known of the chip's memory widens the band of what is streamed.
    unsure = (LARGEST_CACHE - SMALLEST_CACHE) / 2 / MIB * profile.ms_per_streamed_mib
    fewer = min(unsure, streamed * profile.ms_per_streamed_mib)
    more = min(unsure, cached * profile.ms_per_streamed_mib) if work.parameters > cache - 1 else 0.0
    least = (time - fewer) * (1 - profile.error)
    most = (time + more) * (1 + profile.error)
    counted = len(found.verdicts) - len(chosen)
    return ModelEstimate(
        str(path), time, least, most, cached, streamed, work, len(chosen), counted, rate
    )


def _cut(model: Model, count: int, profile: HostProfile) -> list[Segment]:
    found = of_model(model)
    if not found.full:
        raise LimitError(
            "a model is cut for several devices where all of it is mapped, and"
            f" {len(found.verdicts) - found.mapped} of {len(found.verdicts)} ops are not",
            hint="`edgepipe preflight --fix` shows what can be done.",
        )
    return segments.cut(model.main, count, profile, CACHE)


def _ends(graph: Graph) -> float:
    return sum(one.nbytes for one in (*graph.inputs, *graph.outputs)) / MIB
