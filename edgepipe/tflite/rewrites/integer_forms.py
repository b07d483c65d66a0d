"""Says operators that have no integer form in ai-edge-quantizer with ones that have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant, scalar
from edgepipe.tflite.rewrite import Rewrite

_FUSE_INTO = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "DIV"}


class IntegerForms(Rewrite):
    """RELU6 and RELU_N1_TO_1 (fused into what they follow), RELU_0_TO_1, MINIMUM, NEG, ABS,
    SQUARE, POW of 2, 0.5 and -0.5, LEAKY_RELU, PRELU, SQUEEZE, EXPAND_DIMS, SPLIT_V, and
    REDUCE_MAX over a picture.

    ai-edge-quantizer 0.10 leaves these in float between a DEQUANTIZE and a QUANTIZE, though
    int8 was asked for.
    """

    name: ClassVar[str] = "integer_forms"
    says: ClassVar[str] = "operators without an integer form were said with others"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.ops:
            floats = all(one.dtype == "float32" for one in op.outputs)
            if op.name in _FORMS and floats and op.inputs and op.inputs[0] is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        if op.name in ("RELU", "RELU6", "RELU_N1_TO_1") and _fuse(graph, op):
            return True
        steps = _Steps(op)
        if not _FORMS[op.name](op, steps) or not steps.ops:
            return False
        edit.substitute(graph, [op], steps.ops)
        return True


def _fuse(graph: Graph, op: Op) -> bool:
    """Into the operator before, where nothing else reads what that gives."""
    source = op.inputs[0]
    before = graph.producer(source) if source is not None else None
    if before is None or before.name not in _FUSE_INTO or before.activation != "NONE":
        return False
    if len(graph.consumers(before.outputs[0])) > 1 or before.outputs[0] in graph.outputs:
        return False
    if before.options is None:
        return False
    before.options.fused_activation_function = op.name
    before.outputs = op.outputs
    edit.remove(graph, [op])
    return True


class _Steps:
    """Operators in the making: what each gives is an operand of the next."""

    def __init__(self, op: Op) -> None:
        self.op, self.ops = op, list[Op]()
        source = op.inputs[0]
        assert source is not None
        self.source = source

    def add(self, name: str, *operands: Any, last: bool = False, **options: Any) -> Tensor:
        target = self.op.outputs[0]
        number = len(self.ops)
        tensors = [
            one if isinstance(one, Tensor) else Tensor.constant(
                f"{target.name}_{number}_constant", np.asarray(one, np.float32)
            )
            for one in operands
        ]  # fmt: skip
        made = target if last else target.like(f"{target.name}_{number}")
        self.ops.append(Op.make(name, tensors, [made], **options))
        return made


def _clipped(op: Op, steps: _Steps) -> bool:
    steps.add("MUL", steps.source, 1.0, last=True, fused_activation_function=op.name)
    return True


def _only_fused(op: Op, steps: _Steps) -> bool:
    return False


def _relu_0_to_1(op: Op, steps: _Steps) -> bool:
    wide = steps.add("MUL", steps.source, 6.0, fused_activation_function="RELU6")
    steps.add("MUL", wide, 1 / 6, last=True)
    return True


def _neg(op: Op, steps: _Steps) -> bool:
    steps.add("MUL", steps.source, -1.0, last=True)
    return True


def _abs(op: Op, steps: _Steps) -> bool:
    steps.add("MAXIMUM", steps.source, steps.add("MUL", steps.source, -1.0), last=True)
    return True


def _square(op: Op, steps: _Steps) -> bool:
    steps.add("MUL", steps.source, steps.source, last=True)
    return True


def _pow(op: Op, steps: _Steps) -> bool:
    exponent = scalar(op.inputs[1])
    if exponent == 2:
        return _square(op, steps)
    if exponent not in (0.5, -0.5):
        return False
    steps.add("SQRT" if exponent == 0.5 else "RSQRT", steps.source, last=True)
    return True


def _minimum(op: Op, steps: _Steps) -> bool:
    """-max(-a, -b)"""
    operands = []
    for tensor in op.reads():
        values = constant(tensor)
        operands.append(steps.add("MUL", tensor, -1.0) if values is None else -values)
    steps.add("MUL", steps.add("MAXIMUM", *operands), -1.0, last=True)
    return True


def _leaky_relu(op: Op, steps: _Steps) -> bool:
    slope = float(op.option("alpha"))
    if not 0 <= slope <= 1:
        return False
    steps.add("MAXIMUM", steps.source, steps.add("MUL", steps.source, slope), last=True)
    return True


def _prelu(op: Op, steps: _Steps) -> bool:
    slope = constant(op.inputs[1])
    if slope is None:
        return False
    if np.all((slope >= 0) & (slope <= 1)):
        steps.add("MAXIMUM", steps.source, steps.add("MUL", steps.source, slope), last=True)
        return True
    above = steps.add("RELU", steps.source)
    below = steps.add("MUL", steps.add("SUB", steps.source, above), slope)
    steps.add("ADD", above, below, last=True)
    return True


def _reshape(op: Op, steps: _Steps) -> bool:
    target = op.outputs[0]
    if steps.source.dynamic or target.dynamic:
        return False
    shape = Tensor.constant(f"{target.name}_shape", np.asarray(target.shape, np.int32))
    steps.add("RESHAPE", steps.source, shape, last=True)
    return True


def _split_v(op: Op, steps: _Steps) -> bool:
    source = steps.source
    axis_of = op.inputs[2]
    if source.dynamic or axis_of is None or not axis_of.is_constant:
        return False
    axis, start = int(axis_of.array().reshape(-1)[0]) % len(source.shape), 0
    for made in op.outputs:
        begin = [0] * len(source.shape)
        begin[axis], start = start, start + made.shape[axis]
        ends = [
            Tensor.constant(f"{made.name}_{what}", np.asarray(values, np.int32))
            for what, values in (("begin", begin), ("size", made.shape))
        ]
        steps.ops.append(Op.make("SLICE", [source, *ends], [made]))
    return True


def _reduce_max(op: Op, steps: _Steps) -> bool:
    source, axes = steps.source, op.inputs[1]
    if len(source.shape) != 4 or source.dynamic or axes is None or not axes.is_constant:
        return False
    if sorted(int(axis) % 4 for axis in axes.array().reshape(-1)) != [1, 2]:
        return False
    height, width = source.shape[1:3]
    pooled = source.like(
        f"{op.outputs[0].name}_pooled", shape=(source.shape[0], 1, 1, source.shape[3])
    )
    pool = Op.make(
        "MAX_POOL_2D", [source], [pooled], padding="VALID", stride_h=1, stride_w=1,
        filter_height=height, filter_width=width,
    )  # fmt: skip
    steps.ops.append(pool)
    shape = np.asarray(op.outputs[0].shape, np.int32)
    steps.add("RESHAPE", pooled, Tensor.constant(f"{pooled.name}_shape", shape), last=True)
    return True


_FORMS: dict[str, Callable[[Op, _Steps], bool]] = {
    "RELU": _only_fused, "RELU6": _clipped, "RELU_N1_TO_1": _clipped, "RELU_0_TO_1": _relu_0_to_1,
    "NEG": _neg, "ABS": _abs, "SQUARE": _square, "POW": _pow, "MINIMUM": _minimum,
    "LEAKY_RELU": _leaky_relu, "PRELU": _prelu, "SQUEEZE": _reshape, "EXPAND_DIMS": _reshape,
    "SPLIT_V": _split_v, "REDUCE_MAX": _reduce_max,
}  # fmt: skip

REWRITE = IntegerForms()
