"""What each operator of a model asks of an Edge TPU: multiplications, bytes, parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgepipe.targets.edgetpu import memory
from edgepipe.targets.edgetpu.memory import GROUP, INPUT_STEP, MIB, SMALL_STEP
from edgepipe.targets.edgetpu.rules import data
from edgepipe.tflite.graph import Graph, Op, Tensor

_FREE = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SOFTMAX", "LOGISTIC", "RELU", "RELU6")
"""Move nothing, or are done where their operand is made."""


@dataclass(frozen=True)
class Work:
    """Of one operator, or of several: `gmac` as the chip fills up channels, the others in MiB."""

    gmac: float = 0.0
    activations: float = 0.0
    parameters: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.gmac + other.gmac,
            self.activations + other.activations,
            self.parameters + other.parameters,
        )


def of_op(op: Op) -> Work:
    moved = 0 if op.name in _FREE else sum(one.nbytes for one in data(op))
    return Work(_macs(op) / 1e9, moved / MIB, memory.parameters(op) / MIB)


def total(ops: Sequence[Op]) -> Work:
    return sum((of_op(op) for op in ops), Work())


def crossing(graph: Graph, place: int) -> list[Tensor]:
    """What is made before a place and read from there on, or handed out at the end."""
    before = {id(one): one for one in graph.inputs}
    before.update((id(one), one) for op in graph.ops[:place] for one in op.outputs)
    later = {id(one): one for op in graph.ops[place:] for one in op.reads()}
    return [one for key, one in later.items() if key in before]


def _macs(op: Op) -> int:
    weights = op.inputs[1] if len(op.inputs) > 1 else None
    if weights is None or not op.outputs:
        return 0
    shape, target = weights.shape, op.outputs[0].shape
    if op.name == "DEPTHWISE_CONV_2D" and len(shape) == 4:
        return math.prod(shape) * math.prod(target[1:3])
    if op.name in ("CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV") and len(shape) in (2, 4):
        outputs, *window, inputs = shape
        step = SMALL_STEP if outputs <= GROUP else GROUP
        places = math.prod(target[:-1])
        if op.name == "TRANSPOSE_CONV":
            source = op.inputs[2]
            places = math.prod(source.shape[:-1]) if source is not None else 0
        filled = _up(outputs, step) * math.prod(window) * _up(inputs, INPUT_STEP)
        return filled * places
    return 0


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
