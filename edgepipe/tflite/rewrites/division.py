"""Turns divisions by a constant and by a root into multiplications."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant
from edgepipe.tflite.rewrite import Rewrite


class Division(Rewrite):
    """DIV by a constant: MUL by what it is the reciprocal of. DIV by a SQRT: MUL by the RSQRT.

    LiteRT's int8 DIV stops at the first divisor that is stored as its zero point: a small
    constant (ViT), or the deviation of a row in a layer normalization. And the Edge TPU has no
    DIV.
    """

    name: ClassVar[str] = "division"
    says: ClassVar[str] = "DIV by a constant or a root became MUL"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("DIV"):
            values = constant(op.inputs[1])
            if (
                values is not None and np.all(np.isfinite(values)) and np.all(values != 0)
            ) or _root(graph, op) is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        values = constant(op.inputs[1])
        if values is None:
            return _by_root(graph, op)
        with np.errstate(over="ignore"):
            factor = np.asarray(1.0 / values.astype(np.float64)).astype(np.float32)
        if not np.all(np.isfinite(factor)):
            return False
        reciprocal = Tensor.constant(f"{op.outputs[0].name}_reciprocal", factor)
        new = Op.make(
            "MUL", [op.inputs[0], reciprocal], op.outputs, fused_activation_function=op.activation
        )
        edit.substitute(graph, [op], [new])
        return True


def _root(graph: Graph, op: Op) -> Op | None:
    divisor = op.inputs[1]
    root = graph.producer(divisor) if divisor is not None else None
    return root if root is not None and root.name == "SQRT" else None


def _by_root(graph: Graph, op: Op) -> bool:
    root = _root(graph, op)
    if root is None or root.outputs[0].dtype != "float32":
        return False
    inverse = root.outputs[0].like(f"{op.outputs[0].name}_reciprocal")
    new = [
        Op.make("RSQRT", root.inputs, [inverse]),
        Op.make(
            "MUL", [op.inputs[0], inverse], op.outputs, fused_activation_function=op.activation
        ),
    ]
    edit.substitute(graph, [op], new)
    return True


REWRITE = Division()
