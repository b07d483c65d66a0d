"""Operators whose integer version the compiler can't read: in floats, between conversions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.targets.edgetpu import op_releases
from edgepipe.targets.edgetpu.legalise.steps import integer, scaled
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.op_versions import lowest_version
from edgepipe.tflite.rewrite import Rewrite


class FloatIslands(Rewrite):
    """LOG, EXP, SQRT and others got their integer kernels in TensorFlow Lite 2.7 or later. One
    such operator and the compiler reads nothing of the model. On the CPU it runs either way; in
    floats its version is 1, and what comes before it is mapped."""

    name: ClassVar[str] = "float_islands"
    says: ClassVar[str] = "operators too new in integers compute in floats, on the CPU"
    integer_db: ClassVar[float | None] = 30.0

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.ops:
            if not op_releases.readable(op.name, lowest_version(op)) and _possible(op):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        if not _possible(op):
            return False
        new = _in_floats(op)
        before = [
            Op.make("DEQUANTIZE", [one], [other])
            for one, other in zip(op.inputs, new.inputs, strict=True)
            if one is not None and other is not None and one is not other and not one.is_constant
        ]
        after = [
            Op.make("QUANTIZE", [other], [one])
            for one, other in zip(op.outputs, new.outputs, strict=True)
            if one is not other
        ]
        edit.substitute(graph, [op], [*before, new, *after])
        return True


def _possible(op: Op) -> bool:
    """Whether its float form is one that the compiler reads."""
    integers = [one for one in (*op.reads(), *op.outputs) if integer(one)]
    if op.name == "CUSTOM" or not integers or not all(scaled(one) for one in integers):
        return False
    new = _in_floats(op)
    return op_releases.readable(new.name, lowest_version(new))


def _in_floats(op: Op) -> Op:
    known: dict[int, Tensor] = {}

    def real(tensor: Tensor) -> Tensor:
        if not integer(tensor):
            return tensor
        if id(tensor) not in known:
            name = f"{tensor.name}_real"
            if tensor.is_constant:
                known[id(tensor)] = Tensor.constant(name, tensor.real())
            else:
                known[id(tensor)] = tensor.like(name, dtype="float32", quantization=None)
        return known[id(tensor)]

    inputs = [None if one is None else real(one) for one in op.inputs]
    options = None if op.name == "CAST" else op.options  # They repeat the types.
    return Op(op.name, inputs, [real(one) for one in op.outputs], options)


REWRITE = FloatIslands()
