"""The jobs that a worker is asked to do: describe, run a stage, infer, time."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe import catalog
from edgepipe.artifact import Artifact

if TYPE_CHECKING:
    from edgepipe.runner import Tensors
    from edgepipe.stage import Stage


def preload(modules: list[str]) -> None:
    """Import what a later job needs, while the parent waits for another worker."""
    for module in modules:
        importlib.import_module(module)


def describe(artifact: dict[str, Any]) -> dict[str, Any]:
    described = Artifact.from_json(artifact)
    return catalog.runner(described.format).describe(described).to_json()


def run_stage(
    stage: str,
    artifact: dict[str, Any],
    options: dict[str, Any],
    workdir: str,
    data: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`stage` is the dotted name of its class; `data` describes calibration samples."""
    from edgepipe.learning import open_data

    runnable: Stage = catalog.load(stage)()
    typed = runnable.options.from_settings(options, runnable.name)
    subject = Artifact.from_json(artifact)
    samples = open_data(data, subject.ends())
    return runnable.run_on(subject, typed, Path(workdir), samples).to_json()


def infer(
    artifact: dict[str, Any], feeds: str, outputs: str, threads: int = 0, device: str = ""
) -> list[str]:
    """Run every sample of the feeds file; the outputs file has the same number. Names, in order."""
    from edgepipe import tensors

    subject = Artifact.from_json(artifact)
    found: list[Tensors] = []
    with catalog.runner(subject.format)(subject, threads, device) as runner:
        for sample in tensors.read(Path(feeds)):
            found.append(runner.infer(sample))
    tensors.write(Path(outputs), found)
    return list(found[0]) if found else []


def latency(artifact: dict[str, Any], feeds: str, repeats: int, threads: int = 0) -> list[float]:
    """Seconds of each of `repeats` runs on the first sample."""
    from edgepipe import tensors

    subject = Artifact.from_json(artifact)
    sample = next(iter(tensors.read(Path(feeds))))
    with catalog.runner(subject.format)(subject, threads) as runner:
        return runner.latency(sample, repeats)
