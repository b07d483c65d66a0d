"""Turns a division by a constant into a multiplication."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant
from edgepipe.tflite.rewrite import Rewrite


class Division(Rewrite):
    """DIV by a constant: MUL by what it is the reciprocal of.

    A divisor whose stored value is its zero point makes LiteRT's int8 DIV end the process (ViT),
    and the Edge TPU has no DIV.
    """

    name: ClassVar[str] = "division"
    says: ClassVar[str] = "DIV by a constant became MUL"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("DIV"):
            values = constant(op.inputs[1])
            if values is not None and np.all(np.isfinite(values)) and np.all(values != 0):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        values = constant(op.inputs[1])
        if values is None:
            return False
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


REWRITE = Division()
