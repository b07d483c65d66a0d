"""`edgepipe.openvino_profile`: an IR on a device of OpenVINO, timed as a whole and by layer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepipe import inputs, making, toolchain
from edgepipe.artifact import IR
from edgepipe.errors import OptionError, UnsupportedModel
from edgepipe.layers import request_for
from edgepipe.request import open_model
from edgepipe.runners.openvino_devices import check_name
from edgepipe.runners.openvino_settings import OpenvinoSettings
from edgepipe.samples import SampleSource
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.targets.openvino.devices import TOOLCHAIN

REPEATS, SECONDS = 50, 1.0


@dataclass(frozen=True)
class Profile:
    """Seconds. `layers` in the order in which the device runs them, see `openvino_counters`."""

    model: str
    device: str
    runs_on: tuple[str, ...]
    load: float
    from_cache: bool
    cold: float
    times: tuple[float, ...]
    throughput: float
    requests: int
    facts: dict[str, Any]
    settings: dict[str, Any]
    threads: int
    layers: tuple[dict[str, Any], ...]

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def by_type(self) -> list[tuple[str, str, int, float]]:
        """Type, kernel, how many, seconds; of what was executed, the costliest first."""
        sums: dict[tuple[str, str], list[float]] = {}
        for layer in self.layers:
            if layer["executed"]:
                sums.setdefault((layer["op"], layer["exec"]), []).append(layer["seconds"])
        found = [(*key, len(times), sum(times)) for key, times in sums.items()]
        return sorted(found, key=lambda row: -row[3])

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median}


def profile(
    model: str | Path,
    *,
    device: str = "",
    threads: int = 0,
    settings: Mapping[str, Any] | None = None,
    repeats: int = REPEATS,
    seconds: float = SECONDS,
    samples: str | Path | None = None,
    inputs_as: tuple[str, ...] = (),
) -> Profile:
    """`settings`: those of `OpenvinoSettings`. Without samples, seeded noise is fed."""
    name = check_name(device)
    if threads < 0 or repeats < 1 or seconds <= 0:
        raise OptionError(
            "threads from 0, repeats from 1 and seconds above 0 were expected,"
            f" received {threads}, {repeats} and {seconds:g}"
        )
    typed = OpenvinoSettings.from_settings(dict(settings or {}), "openvino")
    request = request_for(model, {"samples": samples} if samples else {})
    with Store() as store, Session(store) as session:
        artifact = open_model(request, Path())
        if artifact.format not in IR:
            raise UnsupportedModel(
                f"an OpenVINO model was expected, and {artifact.path.name} is {artifact.format}",
                hint=f"edgepipe convert {artifact.path.name} --target openvino -o out",
            )
        lacking = toolchain.missing([TOOLCHAIN])
        if lacking is not None:
            raise lacking
        given = request.data_sources()
        if "samples" in given:
            session.samples = SampleSource.of(given["samples"])
        described = making.describe(session, artifact)
        specs = [inputs.parse(text) for text in inputs_as]
        artifact = artifact.with_signature(inputs.pin(described.signature, specs))
        ends = artifact.ends()
        answer = session.call(
            TOOLCHAIN,
            "edgepipe.runners.openvino_profile:profile",
            session.log("openvino-profile"),
            artifact=artifact.to_json(),
            feeds=str(making.feeds_file(session, ends, session.samples.key(ends))),
            device=name,
            threads=threads,
            settings=typed.settings(),
            repeats=repeats,
            seconds=seconds,
        )
    told = dict(answer.value)
    facts = dict(told["facts"])
    return Profile(
        model=str(model),
        device=name,
        runs_on=tuple(facts.pop("devices")),
        load=told["load"],
        from_cache=bool(facts.pop("loaded_from_cache", False)),
        cold=told["cold"],
        times=tuple(told["times"]),
        throughput=told["throughput"],
        requests=int(facts.pop("optimal_number_of_infer_requests", 1)),
        facts=facts,
        settings=typed.settings(),
        threads=threads,
        layers=tuple(told["layers"]),
    )
