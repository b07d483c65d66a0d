"""Brings operators on many dimensions to the three innermost, by joining what lies together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from edgepipe.targets.edgetpu.legalise.steps import Steps, stored_alike, whole
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.rewrite import Rewrite

MOST = 3
"""Dimensions greater than 1, the innermost ones."""
_EACH = (
    "RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "RSQRT", "QUANTIZE",
    "ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE",
)  # fmt: skip
Shape = tuple[int, ...]


class Ranks(Rewrite):
    """TRANSPOSE and SLICE: dimensions that stay together count as one. Functions of single
    numbers: all dimensions but the last are one. Reshapes in between are joined afterwards."""

    name: ClassVar[str] = "ranks"
    says: ClassVar[str] = "operators were brought to three dimensions"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("TRANSPOSE", "SLICE", *_EACH):
            moving = [one for one in (*op.reads(), *op.outputs) if not one.is_constant]
            if any(one.dynamic for one in moving) or not any(
                _too_many(one.shape) for one in moving
            ):
                continue
            if _smaller(op) is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        made = _smaller(op)
        if made is None:
            return False
        edit.substitute(graph, [op], made.ops)
        return True


def _too_many(shape: Shape) -> bool:
    return math.prod(shape[:-MOST]) > 1


def _smaller(op: Op) -> Steps | None:
    if all(one is None or one.is_constant for one in op.inputs):
        return None
    if op.name == "TRANSPOSE":
        return _transpose(op)
    return _slice(op) if op.name == "SLICE" else _each(op)


def _transpose(op: Op) -> Steps | None:
    steps, order = Steps(op), whole(op.inputs[1])
    if order is None or not stored_alike(steps.source, steps.target):
        return None
    long = [axis for axis in order if steps.source.shape[axis] > 1]
    if not long:
        return None
    rank_of = {axis: place for place, axis in enumerate(sorted(long))}
    places = [rank_of[axis] for axis in long]
    runs = [[places[0]]]
    for place in places[1:]:
        if place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    sizes = [steps.source.shape[axis] for axis in sorted(long)]
    ordered = sorted(runs)
    shape = tuple(math.prod(sizes[place] for place in run) for run in ordered)
    if len(shape) > MOST:
        return None
    flat = steps.reshape(steps.source, shape)
    if len(runs) > 1:
        new = [ordered.index(run) for run in runs]
        turned = tuple(shape[axis] for axis in new)
        flat = steps.add("TRANSPOSE", flat, steps.numbers(new), shape=turned)
    steps.reshape(flat, steps.target.shape, last=True)
    return steps


def _slice(op: Op) -> Steps | None:
    steps, begin, size = Steps(op), whole(op.inputs[1]), list(op.outputs[0].shape)
    if begin is None or not stored_alike(steps.source, steps.target):
        return None
    joined: list[list[int]] = []
    for length, first, count in zip(steps.source.shape, begin, size, strict=True):
        if joined and length == count:
            joined[-1] = [one * length for one in joined[-1]]
        else:
            joined.append([length, first, count])
    joined = [one for one in joined if one[0] > 1] or joined[:1]
    if len(joined) > MOST:
        return None
    shape, starts, sizes = zip(*joined, strict=True)
    flat = steps.reshape(steps.source, tuple(shape))
    cut = steps.add("SLICE", flat, steps.numbers(starts), steps.numbers(sizes), shape=tuple(sizes))
    steps.reshape(cut, steps.target.shape, last=True)
    return steps


def _each(op: Op) -> Steps | None:
    steps = Steps(op)
    shape = steps.target.shape
    flat = (math.prod(shape[:-1]), shape[-1])
    operands: list[Tensor] = []
    for one in op.reads():
        if one.shape == shape and not one.is_constant:
            operands.append(steps.reshape(one, flat))
        elif one.is_constant and one.elements == (one.shape or (1,))[-1]:
            operands.append(_flattened(one))
        else:
            return None
    made = steps.target.like(f"{steps.target.name}_flat", shape=flat)
    steps.ops.append(Op(op.name, [*operands], [made], op.options))
    steps.reshape(made, shape, last=True)
    return steps


def _flattened(tensor: Tensor) -> Tensor:
    """A constant for the last dimension, or for all."""
    if len(tensor.shape) < 2:
        return tensor
    made = tensor.like(f"{tensor.name}_flat", shape=(tensor.elements,))
    made.data = tensor.data
    return made


REWRITE = Ranks()
