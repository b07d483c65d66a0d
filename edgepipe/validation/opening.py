"""The two sides of a validation: what was deployed, and the float model that it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe import catalog, gpu, inputs, making, toolchain
from edgepipe.artifact import COMPILED, IR, QUANTIZED, Artifact, Format, Port, Signature
from edgepipe.errors import InputError, OptionError, PathError, UsageError
from edgepipe.quantized_proof import STORED
from edgepipe.request import Request, open_model
from edgepipe.session import Session
from edgepipe.validation import earlier, matching
from edgepipe.validation.asked import Asked
from edgepipe.validation.earlier import Earlier
from edgepipe.validation.subject import Subject

TENSORFLOW = (Format.KERAS, Format.KERAS_H5, Format.SAVED_MODEL)
TORCH = (
    Format.TORCH_EXPORT,
    Format.TORCHSCRIPT,
    Format.TORCH_PICKLE,
    Format.TORCH_SOURCE,
)
WITH_GPU = (*TENSORFLOW, *TORCH, Format.ONNX)
"""Formats whose runners take an NVIDIA GPU."""
LOADS = ("weights", "model_args", "python_path", "submodule", "custom_objects")
"""What of the conversion's request says how its model loads."""


@dataclass(frozen=True)
class Opened:
    """What will run. `ends` are those that the data is read for; `source` is the float model."""

    candidate: Subject
    source: Artifact | None
    ends: Signature
    request: Request
    earlier: Earlier | None
    notes: tuple[str, ...] = ()
    absent: str = ""
    """Why there is no float model to compare with."""


def open_both(session: Session, asked: Asked) -> Opened:
    """Raises what doesn't fit, before any sample is read."""
    found = earlier.find(asked.artifact)
    request = _filled(asked, found)
    artifact, notes = _candidate(session, asked, found)
    source, absent = _source(session, asked, request, found)
    if source is not None:
        pair = (artifact.path.name, source.loading.factory or source.path.name)
        ends = _batch_of_one(_with_outputs(source.ends(), artifact.ends()))
        artifact = artifact.with_signature(matching.matched(artifact.ends(), ends, pair))
        ends = replace(ends, outputs=_closed(ends.outputs, artifact.ends().outputs))
        source = source.with_signature(ends)
    else:
        ends = _batch_of_one(_in_numbers(artifact, [inputs.parse(one) for one in request.inputs]))
        artifact = artifact.with_signature(_shaped(artifact.ends(), ends))
    device = _device(asked.device, artifact.format)
    subject = Subject.of(artifact, device=device, threads=asked.threads)
    subject = replace(subject, label=f"{artifact.path.name} in {subject.runtime}")
    return Opened(subject, source, ends, request, found, notes, absent)


def _filled(asked: Asked, found: Earlier | None) -> Request:
    """What the conversion was told of the model and the data, where nothing else is said now."""
    request = asked.request
    if found is None:
        return request
    said = found.request
    if not request.preprocessing and found.preprocessing:
        request = replace(request, preprocessing=found.preprocessing)
    if not request.columns and said.get("columns"):
        request = replace(request, columns=tuple(said["columns"]))
    if asked.against:
        return request
    factory = ":" in str(said.get("model", "")) and not Path(str(said["model"])).exists()
    model = said["model"] if factory else found.report["source"]["path"]
    known: dict[str, Any] = {
        name: tuple(said[name]) if isinstance(said[name], list) else said[name]
        for name in LOADS
        if name in said and not getattr(request, name)
    }
    return replace(request, model=model, **known)


def _candidate(
    session: Session, asked: Asked, found: Earlier | None
) -> tuple[Artifact, tuple[str, ...]]:
    path = found.model if found is not None else asked.artifact
    artifact = open_model(_plain(asked, path), session.folder)
    notes: tuple[str, ...] = ()
    if artifact.format in COMPILED and not (asked.device and artifact.format is Format.EDGETPU):
        before = found.before_compiling() if found is not None else None
        if before is None:
            raise OptionError(
                f"{path.name} is compiled for a chip, and nothing here runs it",
                hint="name the int8 file that it was made of, or the output folder of convert,"
                " where both are; with an Edge TPU plugged in, --device usb or :0.",
            )
        notes = (
            f"{before.model.name} ran on the CPU as a stand-in for {path.name}: the integers that"
            " the chip's compiler was given",
        )
        found, artifact = before, open_model(_plain(asked, before.model), session.folder)
    _require(artifact.format)
    if found is not None:
        return artifact.with_signature(found.signature), notes
    return artifact.with_signature(making.describe(session, artifact).signature), notes


def _plain(asked: Asked, path: Path) -> Request:
    """A file that loads by itself; consent and custom layers are for either side."""
    request = asked.request
    return Request(
        model=path,
        trust=request.trust,
        custom_objects=request.custom_objects,
        python_path=request.python_path,
    )


def _source(
    session: Session, asked: Asked, request: Request, found: Earlier | None
) -> tuple[Artifact | None, str]:
    if not asked.against and found is None:
        return None, "no float model was named with --against"
    try:
        source = open_model(request, session.folder)
    except UsageError as error:
        if asked.against or found is None:
            raise
        return None, f"the float model that the report names can't be opened: {error.message}"
    if found is not None and source.digest != found.report["source"]["sha256"]:
        if not asked.against:
            raise PathError(
                f"{request.model} is not the model that {found.model.name} was made of: it was"
                " changed since",
                hint="convert it again, or name the old one with --against.",
            )
        found = None
    _require(source.format)
    if found is not None:
        return source.with_signature(found.source_ends), ""
    described = making.describe(session, source)
    specs = [inputs.parse(text) for text in request.inputs]
    optional = described.facts.get("optional_inputs", ())
    source = source.with_signature(inputs.pin(described.signature, specs, optional))
    if not source.ends().outputs:  # PyTorch tells them once the shapes are known.
        source = source.with_signature(
            replace(making.describe(session, source).signature, inputs=source.ends().inputs)
        )
    return source, ""


def _device(name: str, format: Format) -> str:
    """A runner without devices would run on the CPU and say nothing."""
    if name.lower() in ("", "cpu") or format in (*IR, *COMPILED):
        return "" if name.lower() == "cpu" and format not in IR else name
    if format in WITH_GPU and gpu.is_gpu(name):
        gpu.require()
        return name
    known = "cpu or gpu" if format in WITH_GPU else "cpu"
    raise OptionError(
        f"--device {name}: a {format} model has no such device here",
        hint=f"it runs on {known}; Edge TPU and OpenVINO files have devices of their own.",
    )


def _require(format: Format) -> None:
    lacking = toolchain.missing([catalog.runner(format).toolchain])
    if lacking is not None:
        raise lacking


def _in_numbers(artifact: Artifact, specs: list[Any]) -> Signature:
    """Ends as data knows them: integers that stand for numbers are fed those."""
    ends = inputs.pin(artifact.ends(), specs)
    if artifact.format not in (*QUANTIZED, *COMPILED):
        return ends
    return Signature(_as_numbers(ends.inputs), _as_numbers(ends.outputs))


def _as_numbers(ports: tuple[Port, ...]) -> tuple[Port, ...]:
    return tuple(replace(port, dtype="float32") if port.dtype in STORED else port for port in ports)


def _with_outputs(ends: Signature, artifact: Signature) -> Signature:
    """PyTorch's code tells its outputs only when it is run: then those of what was made of it."""
    ports = tuple(Port(port.name, port.given_shape(), port.dtype) for port in artifact.outputs)
    return replace(ends, outputs=ends.outputs or _as_numbers(ports))


def _closed(ports: tuple[Port, ...], others: tuple[Port, ...]) -> tuple[Port, ...]:
    """The float model's outputs, with the shapes that only the artifact knows."""
    return tuple(
        port if port.fixed else replace(port, shape=other.given_shape())
        for port, other in zip(ports or others, others, strict=True)
    )


def _shaped(ends: Signature, pinned: Signature) -> Signature:
    """The file's own types with the shapes that were settled."""
    ports = tuple(
        replace(port, shape=other.shape)
        for port, other in zip(ends.inputs, pinned.inputs, strict=True)
    )
    return replace(ends, inputs=ports)


def _batch_of_one(ends: Signature) -> Signature:
    for port in ends.inputs:
        shape = port.given_shape()
        batch = shape[0] if shape and len(shape) > 1 else None
        firsts = {one.shape[0] for one in ends.outputs if one.shape}
        if batch and batch > 1 and len(ends.inputs) == 1 and firsts == {batch}:
            raise InputError(
                f"the model takes {batch} samples at once (input {port.name!r}), and samples"
                " are validated one by one",
                hint="convert it with a batch of 1:"
                f" --input {port.name}={'x'.join(map(str, (1, *(shape or ())[1:])))}.",
            )
    return ends
