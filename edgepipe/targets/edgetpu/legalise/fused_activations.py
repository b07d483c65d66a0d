"""Activations that are fused where the compiler knows none, as operators of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.targets.edgetpu.legalise.steps import Steps
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.record import Record
from edgepipe.tflite.rewrite import Rewrite

_ALONE = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION", "TRANSPOSE_CONV")
_OPERATORS = ("RELU", "RELU6", "RELU_N1_TO_1")


class FusedActivations(Rewrite):
    """Poolings and concatenations are mapped without one; with one, TRANSPOSE_CONV is of a
    version that needs TensorFlow Lite 2.7 or later."""

    name: ClassVar[str] = "fused_activations"
    says: ClassVar[str] = "activations became operators of their own"

    def places(self, graph: Graph) -> Iterator[Op]:
        return (op for op in graph.operators(*_ALONE) if op.activation in _OPERATORS)

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        if op.options is None:
            return False
        target, fused = op.outputs[0], op.activation
        raw = target.like(f"{target.name}_raw")
        options = Record(
            op.options.kind, **{**op.options.values, "fused_activation_function": "NONE"}
        )
        new = Op(op.name, op.inputs, [raw], options)
        edit.substitute(graph, [op], [new, Op.make(fused, [raw], [target])])
        return Steps(op).plain


REWRITE = FusedActivations()
