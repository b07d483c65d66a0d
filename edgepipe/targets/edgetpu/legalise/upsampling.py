"""Pixels that are repeated by tiles, gathers or joins as RESIZE_NEAREST_NEIGHBOR."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.targets.edgetpu.legalise import movement
from edgepipe.targets.edgetpu.legalise.steps import Steps, stored_alike
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.rewrite import Rewrite

_LAST = ("RESHAPE", "TRANSPOSE", "GATHER", "GATHER_ND", "CONCATENATION")
_REPEATS = {"TILE", "BROADCAST_TO", "GATHER", "GATHER_ND", "CONCATENATION", "PACK"}


class Upsampling(Rewrite):
    """Enlarging by whole factors is written as TILE of version 3, or by indices.

    However it is written: where each element goes is followed, and compared.
    """

    name: ClassVar[str] = "upsampling"
    says: ClassVar[str] = "repeated pixels became RESIZE_NEAREST_NEIGHBOR"

    def places(self, graph: Graph) -> Iterator[Op]:
        known = movement.makers(graph)
        taken: set[int] = set()
        # From the end: what is a part of a longer movement goes with that.
        for op in reversed(graph.operators(*_LAST)):
            found = None if id(op) in taken else _enlarged(known, op)
            if found is not None:
                taken.update(id(one) for one in found[1])
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        found = _enlarged(movement.makers(graph), op)
        if found is None:
            return False
        source, steps = found[0], Steps(op)
        size = steps.numbers(op.outputs[0].shape[1:3])
        steps.add("RESIZE_NEAREST_NEIGHBOR", source, size, last=True)
        edit.substitute(graph, [op], steps.ops)
        return True


def _enlarged(known: movement.Makers, op: Op) -> tuple[Tensor, list[Op]] | None:
    """The image that the result repeats the pixels of, and what does it."""
    target = op.outputs[0]
    if len(target.shape) != 4 or target.dynamic or target.elements > movement.LARGEST:
        return None
    for source, ops in movement.sources(known, op):
        if not any(one.name in _REPEATS for one in ops) or source.is_constant:
            continue
        if len(source.shape) != 4 or source.dynamic or not stored_alike(source, target):
            continue
        if not _whole_factors(source.shape, target.shape):
            continue
        places = movement.follow(source, ops)
        if places is not None and np.array_equal(places, _repeated(source, target)):
            return source, ops
    return None


def _whole_factors(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    """Height and width of more than one pixel, which stretch to a multiple."""
    kept = small[0] == large[0] and small[3] == large[3] and small != large
    return kept and all(a > 1 and b % a == 0 for a, b in zip(small[1:3], large[1:3], strict=True))


def _repeated(source: Tensor, target: Tensor) -> movement.Places:
    places: movement.Places = np.arange(source.elements, dtype=np.int64).reshape(source.shape)
    for axis in (1, 2):
        places = places.repeat(target.shape[axis] // source.shape[axis], axis)
    return places


REWRITE = Upsampling()
