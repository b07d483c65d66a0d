"""Lets a layer normalization take the mean away first, and scale then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant, split_operands
from edgepipe.tflite.rewrite import Rewrite

_REACH = 8
"""Operators between the root of the variance and the sum that the result is."""


class Normalization(Rewrite):
    """x * s + (shift - mean * s): (x - mean) * root * scale + shift.

    Converters write a layer normalization as one multiplication and one addition, as it was made
    for float (litert-torch, Keras). In int8 two large numbers cancel there, each rounded to its
    own coarse scale: what remains is mostly rounding. Scale and shift, apart, can go into the
    layers behind.
    """

    name: ClassVar[str] = "normalization"
    says: ClassVar[str] = "layer normalizations take the mean away before they scale"

    def places(self, graph: Graph) -> Iterator[Op]:
        for found in _found(graph):
            yield found.sum

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        for found in _found(graph):
            if found.sum is op:
                edit.substitute(graph, [op], _said(found))
                return True
        return False


@dataclass
class _Parts:
    sum: Op
    source: Tensor
    mean: Tensor
    root: Tensor
    scale: Tensor | None
    shift: Tensor | None


def _found(graph: Graph) -> Iterator[_Parts]:
    for op in graph.operators("RSQRT"):
        square = _variance(graph, op)
        if square is None:
            continue
        source, mean = square.inputs
        assert source is not None and mean is not None
        behind = _behind(graph, op)
        for total in behind:
            parts = _parts(graph, total, source, mean, behind) if total.name == "ADD" else None
            if parts is not None:
                yield parts


def _variance(graph: Graph, root: Op) -> Op | None:
    """The SQUARED_DIFFERENCE of a tensor and its mean that the root is of."""
    tensor = root.inputs[0]
    for _ in range(4):
        op = graph.producer(tensor) if tensor is not None else None
        if op is None:
            return None
        if op.name == "SQUARED_DIFFERENCE":
            mean = op.inputs[1]
            below = graph.producer(mean) if mean is not None else None
            if below is not None and below.name == "RESHAPE":
                below = graph.producer(below.inputs[0]) if below.inputs[0] is not None else None
            own = below is not None and below.name == "MEAN" and below.inputs[0] is op.inputs[0]
            return op if own else None
        operands = split_operands(op) if op.name == "ADD" else None
        if op.name not in ("ADD", "MEAN", "RESHAPE") or (op.name == "ADD" and operands is None):
            return None
        tensor = operands[0] if operands is not None else op.inputs[0]
    return None


def _behind(graph: Graph, root: Op) -> list[Op]:
    """What depends on the root, nearest first."""
    found: dict[int, Op] = {}
    near = [root]
    for _ in range(_REACH):
        near = [
            one for op in near for one in graph.consumers(op.outputs[0]) if id(one) not in found
        ]
        near = [one for one in near if one.name in ("MUL", "RESHAPE", "NEG", "SUB", "ADD")]
        found.update((id(one), one) for one in near)
    return list(found.values())


def _parts(
    graph: Graph, total: Op, source: Tensor, mean: Tensor, behind: list[Op]
) -> _Parts | None:
    """The sum's operands told apart. That they mean what they look like is for the proof."""
    if total.activation != "NONE" or total.outputs[0].shape != source.shape:
        return None
    if source.dtype != "float32":
        return None
    made = [graph.producer(one) for one in total.reads()]
    for scaled, shifted in (made, made[::-1]):
        if scaled is None or shifted is None or scaled.name != "MUL":
            continue
        if source not in scaled.inputs or not any(shifted is op for op in behind):
            continue
        factor = next((one for one in scaled.reads() if one is not source), None)
        if factor is None:
            continue
        root, scale = _factor(graph, factor, mean)
        if root is not None:
            shift = _shift(graph, shifted)
            return _Parts(total, source, mean, root, scale, shift)
    return None


def _factor(graph: Graph, factor: Tensor, mean: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The root and the constant scale that a factor is made of."""
    if factor.shape == mean.shape:
        return factor, None
    op = graph.producer(factor)
    operands = split_operands(op) if op is not None and op.name == "MUL" else None
    if operands is None or operands[0].shape != mean.shape:
        return None, None
    return operands


def _shift(graph: Graph, op: Op) -> Tensor | None:
    """The constant from which the scaled mean is taken; None where it is 0."""
    while op.name == "RESHAPE" and op.inputs[0] is not None:
        before = graph.producer(op.inputs[0])
        if before is None:
            return None
        op = before
    values = constant(op.inputs[0]) if op.name == "SUB" else None
    return op.inputs[0] if values is not None and values.any() else None


def _said(parts: _Parts) -> list[Op]:
    target = parts.sum.outputs[0]
    ops: list[Op] = []

    def add(name: str, first: Tensor, second: Tensor, what: str) -> Tensor:
        made = target.like(f"{target.name}_{what}")
        ops.append(Op.make(name, [first, second], [made]))
        return made

    last = add("MUL", add("SUB", parts.source, parts.mean, "centred"), parts.root, "normalized")
    if parts.scale is not None:
        last = add("MUL", last, parts.scale, "scaled")
    if parts.shift is not None:
        add("ADD", last, parts.shift, "shifted")
    ops[-1].outputs = [target]
    return ops


REWRITE = Normalization()
