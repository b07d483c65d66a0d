"""At which sizes of its inputs a model is counted: those given, or some where they are free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgepipe import inputs
from edgepipe.artifact import Port, Signature
from edgepipe.inputs import InputSpec

_IMAGE, _OTHER = (64, 128, 256), (16, 64, 256)
"""Sizes for free dimensions other than the batch: of what has four axes, and of anything else."""


def given(signature: Signature, specs: Sequence[InputSpec]) -> list[Signature]:
    """The inputs closed by what was asked: an input that is named again makes another size, and
    one that is named less often keeps its last."""
    only = signature.inputs[0].name if len(signature.inputs) == 1 else ""
    by_name: dict[str, list[InputSpec]] = {}
    unnamed = []
    for spec in specs:
        name = spec.name or only
        if name:
            by_name.setdefault(name, []).append(replace(spec, name=name))
        else:
            unnamed.append(spec)
    rounds = max((len(found) for found in by_name.values()), default=1)
    return [
        inputs.pin(
            signature,
            [*unnamed, *(found[min(turn, len(found) - 1)] for found in by_name.values())],
        )
        for turn in range(rounds)
    ]


def assumed(signature: Signature) -> list[Signature]:
    """Sizes for a model of which none were given: a batch of 1, and three for other free
    dimensions. None where a number of axes isn't known."""
    if any(port.shape is None for port in signature.inputs):
        return []
    free = any(None in (port.shape or ())[1:] for port in signature.inputs)
    return [
        replace(signature, inputs=tuple(_closed(port, turn) for port in signature.inputs))
        for turn in range(len(_IMAGE) if free else 1)
    ]


def _closed(port: Port, turn: int) -> Port:
    shape = port.shape or ()
    size = (_IMAGE if len(shape) == 4 else _OTHER)[turn]
    filled = (
        have if have is not None else size if place else 1 for place, have in enumerate(shape)
    )
    return replace(port, shape=tuple(filled))
