"""Cancels transposes, and moves them together where they don't meet yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import integers, only_reader, scalar, split_operands
from edgepipe.tflite.rewrite import Rewrite

_EACH = (
    "RELU", "RELU6", "LOGISTIC", "TANH", "GELU", "HARD_SWISH", "ABS", "NEG", "SQUARE", "SQRT",
    "RSQRT", "EXP", "QUANTIZE", "DEQUANTIZE", "LEAKY_RELU", "RELU_0_TO_1", "RELU_N1_TO_1",
)  # fmt: skip
_PAIRS = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")


class Transposes(Rewrite):
    """1. One that changes nothing is dropped.
    2. Two in a row become one, or none.
    3. One that only moves axes of length 1 becomes a RESHAPE, which costs nothing.
    4. One in front of a function of single numbers moves behind it, and so do two equal ones in
       front of an operator with two operands: behind there may be another, to cancel.
    """

    name: ClassVar[str] = "transposes"
    says: ClassVar[str] = "transposes were cancelled"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("TRANSPOSE"):
            if _case(graph, op):
                yield op
        for op in graph.operators(*_PAIRS):
            if _equal_operands(graph, op) is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        if op.name != "TRANSPOSE":
            return _push_out(graph, op)
        case = _case(graph, op)
        source, target = op.inputs[0], op.outputs[0]
        if source is None or not case:
            return False
        if case == "identity":
            if source in graph.inputs and target in graph.outputs:
                return False
            edit.replace(model, graph, target, source)
            edit.remove(graph, [op])
        elif case == "reshape":
            shape = Tensor.constant(f"{target.name}_shape", np.asarray(target.shape, np.int32))
            edit.substitute(graph, [op], [Op.make("RESHAPE", [source, shape], op.outputs)])
        elif case == "row":
            before = graph.producer(source)
            assert before is not None
            inner, outer = _order(before), _order(op)
            assert inner is not None and outer is not None
            op.inputs = [before.inputs[0], _constant(target, [inner[axis] for axis in outer])]
        else:
            _sink(graph, op)
        return True


def _order(op: Op) -> list[int] | None:
    return integers(op.inputs[1])


def _constant(target: Tensor, order: list[int]) -> Tensor:
    return Tensor.constant(f"{target.name}_order", np.asarray(order, np.int32))


def _case(graph: Graph, op: Op) -> str:
    order, source = _order(op), op.inputs[0]
    if order is None or source is None:
        return ""
    if order == sorted(order):
        return "identity"
    long = [axis for axis in order if source.shape[axis] != 1]
    if long == sorted(long) and not source.dynamic and not _channels(source):
        return "reshape"
    before = graph.producer(source)
    if before is not None and before.name == "TRANSPOSE" and _order(before) is not None:
        return "row"
    return "sink" if _function_behind(graph, op) is not None else ""


def _channels(tensor: Tensor) -> bool:
    """Scales along an axis, which a RESHAPE would lose."""
    return tensor.quantization is not None and tensor.quantization.per_channel


def _function_behind(graph: Graph, op: Op) -> Op | None:
    """The only reader, where it is a function of single numbers."""
    reader = only_reader(graph, op.outputs[0])
    if reader is None or reader.outputs[0].shape != op.outputs[0].shape:
        return None
    if reader.name in _EACH:
        return reader
    operands = split_operands(reader) if reader.name in _PAIRS else None
    return reader if operands is not None and scalar(operands[1]) is not None else None


def _sink(graph: Graph, op: Op) -> None:
    """transpose, function: the function first."""
    function, source = _function_behind(graph, op), op.inputs[0]
    assert function is not None and source is not None
    target = function.outputs[0]
    moved = target.like(f"{target.name}_first", shape=source.shape, signature=source.signature)
    operands = [source if one is op.outputs[0] else one for one in function.inputs]
    operands = [_number(one) if one is not source else one for one in operands]
    new = Op.make(function.name, operands, [moved])
    new.options = function.options
    turned = Op.make("TRANSPOSE", [moved, op.inputs[1]], [target])
    edit.substitute(graph, [op, function], [new, turned])


def _number(tensor: Tensor | None) -> Tensor | None:
    """A constant that holds one number everywhere, in no shape that could broadcast wrongly."""
    value = scalar(tensor)
    if tensor is None or value is None or tensor.elements == 1:
        return tensor
    return Tensor.constant(f"{tensor.name}_number", np.asarray(value, tensor.dtype))


def _equal_operands(graph: Graph, op: Op) -> list[Op] | None:
    """The transposes in front of both operands, where they are the same and read by it alone."""
    found = [graph.producer(tensor) for tensor in op.reads()]
    if len(found) != 2 or any(one is None or one.name != "TRANSPOSE" for one in found):
        return None
    pair = [one for one in found if one is not None]
    orders = [_order(one) for one in pair]
    alone = all(len(graph.consumers(one.outputs[0])) == 1 for one in pair)
    shapes = {one.outputs[0].shape for one in pair}
    ends = any(one.outputs[0] in graph.outputs for one in pair)
    if orders[0] is None or orders[0] != orders[1] or not alone or len(shapes) != 1 or ends:
        return None
    return pair


def _push_out(graph: Graph, op: Op) -> bool:
    pair = _equal_operands(graph, op)
    if pair is None or pair[0] is pair[1]:
        return False
    source, target, order = pair[0].inputs[0], op.outputs[0], _order(pair[0])
    assert source is not None and order is not None
    moved = target.like(f"{target.name}_first", shape=source.shape, signature=source.signature)
    new = Op.make(op.name, [one.inputs[0] for one in pair], [moved])
    new.options = op.options
    turned = Op.make("TRANSPOSE", [moved, _constant(target, order)], [target])
    edit.substitute(graph, [*pair, op], [new, turned])
    return True


REWRITE = Transposes()
