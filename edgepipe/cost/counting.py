"""Counts the cost of a file, and has shapes that it doesn't say found in a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepipe import catalog, inputs, toolchain
from edgepipe.artifact import COMPILED, Artifact, Format, Signature
from edgepipe.cost import of_onnx, of_tflite, sizes
from edgepipe.cost.network import Network
from edgepipe.cost.tally import Cost, count
from edgepipe.errors import EdgepipeError, StageError, UnknownFormat, UnsupportedModel
from edgepipe.inputs import InputSpec
from edgepipe.session import Session
from edgepipe.store import key as store_key

REVISION = 1
"""To be raised when the same file would give other shapes."""

_TFLITE = (Format.TFLITE, Format.TFLITE_QUANTIZED, *COMPILED)

_Network = Callable[[Signature | None], "tuple[Network, tuple[str, ...]]"]
"""The network at a size of its inputs, and what is to be noted of it."""


@dataclass(frozen=True)
class Costs:
    """A cost for each size, the first one in full; `why` says what kept it from being counted."""

    sizes: tuple[Cost, ...] = ()
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        if not self.sizes:
            return {"cost": None, "why": self.why}
        found: dict[str, Any] = {"cost": self.sizes[0].to_json()}
        if len(self.sizes) > 1:
            found["growth"] = [
                {
                    "inputs": one.inputs,
                    "total": one.total.to_json(),
                    "peak_activation_bytes": one.peak,
                    "peak_is_whole": one.peak_whole,
                }
                for one in self.sizes
            ]
        return found


def of(
    session: Session, artifact: Artifact, signature: Signature, specs: Sequence[InputSpec]
) -> Costs:
    """What a TFLite or ONNX file costs; other formats have no graph until they are converted."""
    if artifact.format is not Format.ONNX and artifact.format not in _TFLITE:
        return Costs(why=f"{artifact.format} has no costs before it is converted")
    given = sizes.given(signature, specs) if specs else []
    reader = _onnx if artifact.format is Format.ONNX else _tflite
    try:
        network = reader(session, artifact)
        if given:
            return Costs(tuple(_at(network, one, ()) for one in given))
        open_ones = [port for port in signature.inputs if not port.fixed]
        if not open_ones:
            return Costs((_at(network, None, ()),))
        assumed = sizes.assumed(signature)
        words = "; ".join(map(inputs.words, open_ones))
        if not assumed:
            return Costs((count(network(None)[0], (f"{words}: set it with --input",)),))
        notes = (f"{words} is open in the file: sizes are set with --input NAME=SHAPE",)
        return Costs(tuple(_at(network, one, notes) for one in assumed))
    except (UnknownFormat, UnsupportedModel) as error:
        return Costs(why=error.message)


def _at(network: _Network, at: Signature | None, notes: tuple[str, ...]) -> Cost:
    """One size; where its shapes can't be found, what the file says alone, and why."""
    try:
        found, more = network(at)
        return count(found, (*notes, *more))
    except _NoShapes as error:
        return count(error.network, (*notes, error.words))


class _NoShapes(Exception):
    def __init__(self, network: Network, error: EdgepipeError) -> None:
        super().__init__(error.message)
        self.network = network
        hint = f": {error.hint}" if error.hint else ""
        self.words = f"shapes that the file doesn't say are unknown: {error.message}{hint}"


def _tflite(session: Session, artifact: Artifact) -> _Network:
    from edgepipe.tflite import loading

    model = loading.load(artifact.path)

    def network(at: Signature | None) -> tuple[Network, tuple[str, ...]]:
        as_in_file = of_tflite.of(model)
        if at is None or [port.shape for port in at.inputs] == [
            tensor.shape for tensor in model.main.inputs
        ]:
            # The file's shapes are those at this size: what is open stands as 1 in it.
            return as_in_file, ()
        wanted = [list(port.shape or ()) for port in at.inputs]

        def find(folder: Path) -> dict[str, Any]:
            answer = session.call(
                "edge", "edgepipe.cost.shape_jobs:of_tflite", session.log("shapes-tflite"),
                model=str(artifact.path), inputs=wanted,
            )  # fmt: skip
            return dict(answer.value)

        blank = of_tflite.of(model, {})
        facts = _found(session, artifact, wanted, find, blank)[1]
        return of_tflite.of(model, {int(at): tuple(shape) for at, shape in facts.items()}), ()

    return network


def _onnx(session: Session, artifact: Artifact) -> _Network:
    as_in_file = of_onnx.read(artifact.path)

    def network(at: Signature | None) -> tuple[Network, tuple[str, ...]]:
        if at is None and not as_in_file.unknown():
            return as_in_file, ()
        wanted = {} if at is None else {
            port.tensor or port.name: list(port.shape or ()) for port in at.inputs
        }  # fmt: skip

        def find(folder: Path) -> dict[str, Any]:
            answer = session.call(
                "edge", "edgepipe.cost.shape_jobs:of_onnx", session.log("shapes-onnx"),
                model=str(artifact.path), inputs=wanted, made=str(folder / "shapes.onnx"),
            )  # fmt: skip
            return dict(answer.value)

        folder, facts = _found(session, artifact, wanted, find, as_in_file)
        why = (f"ONNX Runtime can't run it at this size: {facts['why']}",) if facts["why"] else ()
        return of_onnx.read(folder / "shapes.onnx"), why

    return network


def _found(
    session: Session,
    artifact: Artifact,
    wanted: Any,
    find: Callable[[Path], dict[str, Any]],
    otherwise: Network,
) -> tuple[Path, dict[str, Any]]:
    lacking = toolchain.missing([catalog.runner(artifact.format).toolchain])
    if lacking is not None:
        raise _NoShapes(otherwise, lacking)
    parts = {
        "step": "tensor shapes",
        "revision": REVISION,
        "format": artifact.format.value,
        "digest": artifact.digest,
        "inputs": wanted,
        "toolchain": session.interpreter("edge").fingerprint,
    }
    try:
        entry = session.fetch(store_key(parts), find, f"shapes of {artifact.path.name}")
    except StageError as error:
        raise _NoShapes(otherwise, error) from error
    return entry.path, entry.facts
