"""Puts a softmax that is in pieces back into one operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import integers
from edgepipe.tflite.rewrite import Rewrite


class Softmax(Rewrite):
    """exp(x - max(x)) / sum(exp(x - max(x))) over the last axis, with or without the maximum.

    EXP and REDUCE_MAX have no integer kernel that ai-edge-quantizer uses, and the quotient of
    two int8 tensors of eight bits each is coarse: 20 dB where SOFTMAX gives 38.
    """

    name: ClassVar[str] = "softmax"
    says: ClassVar[str] = "exponential, sum and quotient became SOFTMAX"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("DIV"):
            if _source(graph, op) is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        source = _source(graph, op)
        if source is None or op.activation != "NONE":
            return False
        edit.substitute(graph, [op], [Op.make("SOFTMAX", [source], op.outputs, beta=1.0)])
        return True


def _source(graph: Graph, op: Op) -> Tensor | None:
    """What the softmax is of."""
    top, bottom = op.inputs
    exp = graph.producer(top) if top is not None else None
    total = graph.producer(bottom) if bottom is not None else None
    if exp is None or total is None or exp.name != "EXP":
        return None
    if total.name != "SUM" or total.inputs[0] is not top or not _over_the_last(total):
        return None
    inner = exp.inputs[0]
    shift = graph.producer(inner) if inner is not None else None
    if shift is not None and shift.name == "SUB" and shift.activation == "NONE":
        source, highest = shift.inputs
        made = graph.producer(highest) if highest is not None else None
        if made is not None and made.name == "REDUCE_MAX" and made.inputs[0] is source:
            return source if _over_the_last(made) else inner
    return inner


def _over_the_last(op: Op) -> bool:
    source = op.inputs[0]
    axes = integers(op.inputs[1])
    if source is None or axes is None or len(axes) != 1 or not op.option("keep_dims"):
        return False
    return axes[0] in (-1, len(source.shape) - 1)


REWRITE = Softmax()
