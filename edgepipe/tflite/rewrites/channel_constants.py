"""Gives constants that are compared per channel the rank of what they are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant, scalar, split_operands
from edgepipe.tflite.rewrite import Rewrite


class ChannelConstants(Rewrite):
    """MAXIMUM and MINIMUM with a constant of a lower rank.

    The result must have the scale of both operands, and ai-edge-quantizer 0.10 stops with
    "Ranks of scales (5) and zps (5) must be the same as the tensor rank (1)".
    """

    name: ClassVar[str] = "channel_constants"
    says: ClassVar[str] = "constants per channel got the rank of their operand"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("MAXIMUM", "MINIMUM"):
            operands = split_operands(op)
            if operands is not None and 0 < len(operands[1].shape) < len(operands[0].shape):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        operands = split_operands(op)
        values = constant(operands[1]) if operands is not None else None
        if operands is None or values is None:
            return False
        number = scalar(operands[1])
        wide = values.reshape((1,) * (len(operands[0].shape) - values.ndim) + values.shape)
        made = wide if number is None else np.asarray(number, np.float32)
        tensor = Tensor.constant(f"{op.outputs[0].name}_bound", made)
        op.inputs = [tensor if one is operands[1] else one for one in op.inputs]
        return True


REWRITE = ChannelConstants()
