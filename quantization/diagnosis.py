"""Which layers of a quantized TFLite cost the accuracy, and why: the job of `edgepipe diagnose`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Artifact
from edgepipe.errors import SamplesError
from edgepipe.runner import to_file_layout
from edgepipe.runners import feeding

from . import causes, layer_errors
from .causes import Finding
from .layer_errors import Noise, OwnErrors, Reference
from .layer_facts import Activation, Observed, weight_facts
from .paired_graphs import Pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

REWRITE_SAMPLES = 2
SAME_WEIGHTS_DB = 10.0
FOLLOWED = 4
"""Samples whose errors are followed to the outputs; all are used for the errors themselves."""


def run(
    original: dict[str, Any], quantized: dict[str, Any], feeds: str, seconds: float
) -> dict[str, Any]:
    """Everything that is known of each layer, the costliest first. Called in a worker."""
    from edgepipe import tensors

    before, after = Artifact.from_json(original), Artifact.from_json(quantized)
    samples = list(tensors.read(Path(feeds)))
    if not samples:
        raise SamplesError("there is no sample to diagnose on")
    deadline = time.monotonic() + seconds
    before = _as_quantized(before, after, samples[:REWRITE_SAMPLES])
    pair = Pair(before.path, after.path)
    reference, observed, own = Reference(before.path), Observed(pair), OwnErrors(pair)
    whole = _Whole(after)
    kept: list[tuple[list[NDArray[Any]], dict[str, NDArray[Any]]]] = []
    for sample in samples:
        fed = _in_order(before, reference, sample)
        reference.run(fed)
        observed.add(reference)
        differences = own.add(reference)
        if len(kept) < FOLLOWED:
            kept.append((fed, differences))
        whole.add(before, reference, sample)
    names = [port.name for port in before.ends().outputs]
    layer_errors.follow(before.path, own.found, kept, names, deadline)
    findings = [
        Finding(
            error,
            weight_facts(error.layer),
            [observed.found[name] for name in error.layer.reads],
            observed.found[error.layer.makes],
            observed.ranges.get(error.layer.makes),
        )
        for error in own.found
    ]
    _share(findings)
    for finding in findings:
        finding.causes = causes.explain(finding)
    findings.sort(key=lambda one: (-(one.share or 0.0), one.error.own.sqnr_db))
    return {
        "samples": len(samples),
        "followed": sum(1 for one in findings if one.error.final),
        "outputs": whole.to_json(),
        "causes": [cause.to_json() for cause in _of_model(before, observed, findings)],
        "layers": [causes.to_json(finding) for finding in findings],
    }


def _as_quantized(original: Artifact, quantized: Artifact, samples: Sequence[Tensors]) -> Artifact:
    """The float model in the form that was quantized: rewritten before, or as it is.

    The rewrites keep names and move factors from one constant to the next, so only the values of
    the weights tell: those of the right form are those of the quantized file, but for rounding.
    """
    from edgepipe.tflite import rewrite

    path = Path(tempfile.mkdtemp()) / "prepared.tflite"
    ports = original.ends().inputs
    feeds = [
        {port.tensor or port.name: to_file_layout(sample[port.name], port) for port in ports}
        for sample in samples
    ]
    rewrite.prepare(original.path, path, feeds)
    forms = [replace(original, path=path), original]
    return max(forms, key=lambda form: _likeness(form.path, quantized.path))


def _likeness(original: Path, quantized: Path) -> tuple[int, int]:
    """Layers with the same weights, less those with others; layers that are found at all."""
    pair = Pair(original, quantized, strict=False)
    layers = [layer for layer in pair.layers if layer.original is not None]
    losses = [facts.sqnr_db for layer in layers if (facts := weight_facts(layer)) is not None]
    known = [loss for loss in losses if loss is not None]
    return sum(1 if loss > SAME_WEIGHTS_DB else -1 for loss in known), len(layers)


def _in_order(artifact: Artifact, reference: Reference, sample: Tensors) -> list[NDArray[Any]]:
    """The feeds as the float file wants them, in the order of its inputs."""
    ports = {port.tensor or port.name: port for port in artifact.ends().inputs}
    fed = []
    for details in reference.interpreter.get_input_details():
        port = ports[details["name"]]
        array = to_file_layout(feeding.pick(sample, port, tuple(ports.values())), port)
        fed.append(array.astype(details["dtype"]))
    return fed


class _Whole:
    """The quantized model from end to end, beside the float one."""

    def __init__(self, artifact: Artifact) -> None:
        from edgepipe.runners.tflite import TfliteRunner

        self.runner = TfliteRunner(artifact)
        self.runner.load()
        self.noise: dict[str, Noise] = {}

    def add(self, original: Artifact, reference: Reference, sample: Tensors) -> None:
        received = self.runner.infer(sample)
        for port in original.ends().outputs:
            wanted = reference.value(port.tensor or port.name)
            there = next(
                one for one in self.runner.artifact.ends().outputs if one.name == port.name
            )
            found = to_file_layout(received[port.name], there)
            self.noise.setdefault(port.name, Noise()).add(wanted, found)

    def to_json(self) -> dict[str, Any]:
        return {
            name: {"sqnr_db": round(noise.sqnr_db, 2), "cosine": round(noise.cosine, 6)}
            for name, noise in self.noise.items()
        }


def _share(findings: Sequence[Finding]) -> None:
    """Noise at the outputs, each output counted by its own signal."""
    weighed = {}
    for place, finding in enumerate(findings):
        final = finding.error.final
        if final:
            weighed[place] = sum(one.noise / one.signal for one in final.values() if one.signal)
    total = sum(weighed.values())
    for place, noise in weighed.items():
        findings[place].share = noise / total if total else 0.0


def _of_model(
    artifact: Artifact, observed: Observed, findings: Sequence[Finding]
) -> list[causes.Cause]:
    ports = artifact.ends().inputs
    inputs = [port.tensor or port.name for port in ports]
    seen = [observed.found.get(name, Activation()) for name in inputs]
    held = [observed.ranges.get(name) for name in inputs]
    found = causes.of_inputs([port.name for port in ports], seen, held)
    return found or causes.of_calibration(findings)
