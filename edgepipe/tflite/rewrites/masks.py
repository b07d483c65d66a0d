"""Bounds the huge negative numbers that mask attention scores before a softmax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant
from edgepipe.tflite.rewrite import Rewrite

HUGE = -1000.0
"""No score is as low; what is below was put there as "never"."""

ENOUGH = -24.0
"""exp(-24) is 4e-11: none of an int8 softmax's 256 steps."""


class Masks(Rewrite):
    """A mask of -inf or -3.4e38 takes the whole int8 range, and the scores become one step.

    With -3.4e38 ai-edge-quantizer 0.10 makes a file in which LiteRT 2.3 crashes.
    """

    name: ClassVar[str] = "masks"
    says: ClassVar[str] = f"mask constants were bounded at {ENOUGH:g}"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("ADD", "SELECT", "SELECT_V2"):
            if _masks(op) and _leads_to_softmax(graph, op):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        for number in _masks(op):
            tensor = op.inputs[number]
            values = constant(tensor)
            if values is not None and tensor is not None:
                bounded = np.maximum(values, np.asarray(ENOUGH, values.dtype))
                op.inputs[number] = Tensor.constant(f"{op.outputs[0].name}_mask", bounded)
        return True


def _masks(op: Op) -> list[int]:
    """Operands that are masks."""
    found = []
    for number, tensor in enumerate(op.inputs):
        values = constant(tensor)
        if values is not None and values.size and float(np.min(values)) <= HUGE:
            found.append(number)
    return found


def _leads_to_softmax(graph: Graph, op: Op) -> bool:
    for _ in range(3):
        readers = graph.consumers(op.outputs[0])
        if len(readers) != 1:
            return False
        (op,) = readers
        if op.name == "SOFTMAX":
            return True
        if op.name not in ("RESHAPE", "TRANSPOSE", "ADD"):
            return False
    return False


REWRITE = Masks()
