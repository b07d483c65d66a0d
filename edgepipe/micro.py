"""What TensorFlow Lite Micro makes of a quantized model: how far from LiteRT, in which arena."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe import __version__, making, toolchain
from edgepipe.artifact import Artifact
from edgepipe.errors import StageError
from edgepipe.process_memory import words
from edgepipe.session import Session
from edgepipe.store import key as store_key

TOOLCHAIN = "tflite-micro"
REVISION = 3
"""Raised when the same model would be measured otherwise."""
SAMPLES = 2
"""Its reference kernels take a second for a network of a billion MACs."""


@dataclass(frozen=True)
class Micro:
    """`steps`: the largest difference from LiteRT, in steps of an output's scale. `why` is set
    where it can't run the model, and nothing else is."""

    arena: int = 0
    head: int = 0
    tail: int = 0
    steps: float = 0.0
    samples: int = 0
    why: str = ""

    def told(self) -> str:
        if self.why:
            return f"not run in TensorFlow Lite Micro: {self.why}"
        return (
            f"in TensorFlow Lite Micro it differs from LiteRT by at most {self.steps:g} step(s)"
            f" ({self.samples} samples), in an arena of {words(self.arena)} without an NPU"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(session: Session, artifact: Artifact) -> Micro:
    """Of a quantized TFLite model; kept like any result. Where it isn't installed, that is said."""
    lacking = toolchain.missing([TOOLCHAIN])
    if lacking is not None:
        return Micro(why=f"edgepipe toolchain install {TOOLCHAIN}")
    samples = session.samples.key(artifact.ends())
    key = store_key(
        {
            "step": "tflite-micro",
            "edgepipe": __version__,
            "revision": REVISION,
            "outputs": making.outputs_key(session, artifact, samples),
            "toolchain": session.interpreter(TOOLCHAIN).fingerprint,
        }
    )

    def run(folder: Path) -> dict[str, Any]:
        from edgepipe.tflite.inline import write_inline

        feeds = making.feeds_file(session, artifact.ends(), samples)
        inline = folder / "inline.tflite"
        write_inline(artifact.path, inline)
        try:
            answer = session.call(
                TOOLCHAIN,
                "edgepipe.runners.tflite_micro:measure",
                session.log("tflite-micro"),
                artifact=replace(artifact, path=inline).to_json(),
                feeds=str(feeds),
                outputs=str(folder / "outputs.npz"),
                count=SAMPLES,
            )
        except StageError as error:
            return Micro(why=error.message).to_json()
        finally:
            inline.unlink()
        arena = dict(answer.value)
        steps = _steps(artifact, making.outputs(session, artifact, samples, feeds), folder)
        found = Micro(arena["total"], arena["head"], arena["tail"], steps, SAMPLES)
        return found.to_json()

    return Micro(**session.fetch(key, run, f"micro run of {artifact.path.name}").facts)


def _steps(artifact: Artifact, outputs: Path, folder: Path) -> float:
    """The largest difference of any output, in steps of its scale."""
    import numpy as np

    from edgepipe import tensors
    from edgepipe.tflite import reader

    graph = reader.read(artifact.path).main
    scales = {
        graph.tensors[index].name: quantization.scales[0]
        for index in graph.outputs
        if (quantization := graph.tensors[index].quantization) is not None
    }
    worst = 0.0
    # The shorter one first: LiteRT ran all samples.
    pairs = zip(tensors.read(folder / "outputs.npz"), tensors.read(outputs), strict=False)
    for received, wanted in pairs:
        for port in artifact.ends().outputs:
            away = received[port.name].astype(np.float64) - wanted[port.name]
            step = scales.get(port.tensor or port.name, 1.0)
            worst = max(worst, float(np.max(np.abs(away), initial=0.0)) / step)
    return round(worst, 3)
