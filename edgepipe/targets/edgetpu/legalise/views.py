"""Operators that only name parts or dimensions, by the ones that are mapped: RESHAPE and SLICE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.targets.edgetpu.legalise.steps import Steps, stored_alike, whole
from edgepipe.targets.edgetpu.rules import broken
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.rewrite import Rewrite

_NAMES = ("SQUEEZE", "EXPAND_DIMS", "SPLIT", "SPLIT_V", "UNPACK", "TILE")


class Views(Rewrite):
    """SQUEEZE of inner dimensions, EXPAND_DIMS: RESHAPE. SPLIT_V, UNPACK, SPLIT on more than
    three dimensions: SLICE. TILE along one axis: CONCATENATION."""

    name: ClassVar[str] = "views"
    says: ClassVar[str] = "SQUEEZE, SPLIT_V, UNPACK or TILE were said with mapped operators"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators(*_NAMES):
            source = _source(op)
            fixed = source is not None and not source.dynamic and not source.is_constant
            alike = fixed and all(stored_alike(source, one) for one in op.outputs)  # type: ignore[arg-type]
            if alike and broken(op) is not None and _possible(op):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        source = _source(op)
        assert source is not None
        if op.name in ("SQUEEZE", "EXPAND_DIMS"):
            steps = Steps(op)
            steps.reshape(source, steps.target.shape, last=True)
            edit.substitute(graph, [op], steps.ops)
            return True
        if op.name == "TILE":
            axis, times = _tiled(op)
            join = Op.make("CONCATENATION", [source] * times, op.outputs, axis=axis)
            edit.substitute(graph, [op], [join])
            return True
        axis, start, made = _axis(op, source), 0, list[Op]()
        for place, part in enumerate(op.outputs):
            steps = Steps(op, place)
            begin, size = [0] * len(source.shape), list(source.shape)
            size[axis] = 1 if op.name == "UNPACK" else part.shape[axis]
            begin[axis], start = start, start + size[axis]
            last = part.shape == tuple(size)
            cut = steps.add(
                "SLICE", source, steps.numbers(begin), steps.numbers(size),
                last=last, shape=tuple(size),
            )  # fmt: skip
            if not last:
                steps.reshape(cut, part.shape, last=True)
            made += steps.ops
        edit.substitute(graph, [op], made)
        return True


def _possible(op: Op) -> bool:
    if op.name == "TILE":
        return _tiled(op)[1] > 1
    if op.name == "SPLIT":
        return whole(op.inputs[0]) is not None
    return op.name != "SPLIT_V" or whole(op.inputs[2]) is not None


def _source(op: Op) -> Tensor | None:
    return op.inputs[1 if op.name == "SPLIT" else 0]


def _axis(op: Op, source: Tensor) -> int:
    if op.name == "UNPACK":
        return int(op.option("axis")) % len(source.shape)
    named = whole(op.inputs[0 if op.name == "SPLIT" else 2])
    assert named is not None
    return named[0] % len(source.shape)


def _tiled(op: Op) -> tuple[int, int]:
    """Axis and times, where one axis is repeated a few times."""
    times = whole(op.inputs[1]) or []
    repeated = [axis for axis, count in enumerate(times) if count != 1]
    if len(repeated) != 1 or times[repeated[0]] > 16:
        return 0, 0
    return repeated[0], times[repeated[0]]


REWRITE = Views()
