"""The job that measures an IR on a device of OpenVINO: loading, latency, throughput, layers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgepipe.artifact import Artifact
from edgepipe.runners.openvino import OpenvinoRunner


def profile(
    artifact: dict[str, Any],
    feeds: str,
    device: str,
    threads: int,
    settings: dict[str, Any],
    repeats: int,
    seconds: float,
) -> dict[str, Any]:
    """Times without the counters, for those cost time themselves; then the layers with them."""
    from edgepipe import tensors

    subject = Artifact.from_json(artifact)
    sample = next(iter(tensors.read(Path(feeds))))
    start = time.perf_counter()
    with OpenvinoRunner(subject, threads, device, {**settings, "counters": False}) as runner:
        load = time.perf_counter() - start
        assert isinstance(runner, OpenvinoRunner)
        first = runner.latency(sample, 1, 0)
        found = {
            "load": load,
            "cold": first[0],
            "times": runner.latency(sample, repeats),
            "throughput": runner.throughput(sample, seconds),
            "facts": runner.facts(),
        }
    with OpenvinoRunner(subject, threads, device, {**settings, "counters": True}) as runner:
        assert isinstance(runner, OpenvinoRunner)
        found["layers"] = [one.to_json() for one in runner.counters(sample, repeats)]
    return found
