"""What runs the float model: its own framework, ONNX Runtime, or TensorFlow with XLA."""

from __future__ import annotations

from dataclasses import replace

from edgepipe import gpu, pipeline, toolchain
from edgepipe.artifact import Artifact, Format
from edgepipe.errors import OptionError
from edgepipe.plan import routes_between
from edgepipe.session import Session
from edgepipe.validation.asked import Asked
from edgepipe.validation.opening import TENSORFLOW, TORCH, WITH_GPU, Opened
from edgepipe.validation.subject import Subject

TAKES: dict[str, tuple[Format, ...]] = {
    "keras": TENSORFLOW,
    "torch": TORCH,
    "tensorflow-xla": TENSORFLOW,
}
"""Which models each baseline runs; ONNX Runtime takes all that can be converted to ONNX."""


def choose(session: Session, asked: Asked, opened: Opened) -> Subject | None:
    """None where there is no float model. Raises before anything is run what can't be."""
    source = opened.source
    if source is None:
        if asked.baseline != "auto" or asked.baseline_device != "cpu":
            raise OptionError(
                f"there is no float model to run as the baseline: {opened.absent}",
                hint="name it with --against MODEL.",
            )
        return None
    settings = {}
    if asked.baseline == "onnxruntime":
        source = _as_onnx(session, source)
    elif asked.baseline != "auto":
        _check(asked.baseline, source)
        settings = {"xla": True} if asked.baseline == "tensorflow-xla" else {}
    device = ""
    if asked.baseline_device == "gpu":
        gpu.require()
        if source.format not in WITH_GPU:
            raise OptionError(
                f"a {source.format} model doesn't run on a GPU here",
                hint="name a Keras, PyTorch or ONNX model with --against.",
            )
        device = "gpu"
    made = Subject.of(source, device=device, threads=asked.threads, settings=settings)
    name = opened.source and (opened.source.loading.factory or opened.source.path.name)
    return replace(made, label=f"{name} in {made.runtime}{', XLA' if settings else ''}")


def notes(asked: Asked, baseline: Subject | None) -> list[str]:
    """That a GPU is there and not in use, where the baseline could run on it."""
    if baseline is None or baseline.device or baseline.artifact.format not in WITH_GPU:
        return []
    found = gpu.present()
    if not found:
        return []
    return [
        f"a GPU is there ({found[0]}) and not in use: the float model runs on the CPU;"
        " --baseline-device gpu takes it"
    ]


def _check(name: str, source: Artifact) -> None:
    if source.format in TAKES[name]:
        return
    fitting = [one for one, formats in TAKES.items() if source.format in formats]
    raise OptionError(
        f"--baseline {name} can't run a {source.format} model",
        hint=f"it can be run by {', '.join(['auto', *fitting, 'onnxruntime'])}.",
    )


def _as_onnx(session: Session, source: Artifact) -> Artifact:
    """The model as ONNX, by the pipeline's own steps: proven, and kept for the next time."""
    if source.format is Format.ONNX:
        return source
    found = routes_between(source.format, Format.ONNX)
    lacking = toolchain.missing(found[0].toolchains())
    if lacking is not None:
        raise lacking
    return pipeline.run(session, source, found, False, False).chosen.result
