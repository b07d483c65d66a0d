"""What operators on single numbers compute, to tell a function by its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.tflite.graph import Graph, Op, Tensor
from edgepipe.tflite.pattern import scalar

Values = NDArray[np.float64]

LARGEST = 40
"""Operators of one function: erf as a polynomial in its branches takes about 25."""


def _clip(low: float | None, high: float | None) -> Callable[..., Any]:
    return lambda x: np.clip(x, low, high)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": np.divide, "POW": np.power,
    "MAXIMUM": np.maximum, "MINIMUM": np.minimum, "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2,
    "NEG": np.negative, "ABS": np.abs, "SQUARE": np.square, "SQRT": np.sqrt, "EXP": np.exp,
    "RSQRT": lambda x: 1 / np.sqrt(x), "TANH": np.tanh, "SIGN": np.sign,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)), "RELU": _clip(0, None), "RELU6": _clip(0, 6),
    "RELU_N1_TO_1": _clip(-1, 1), "RELU_0_TO_1": _clip(0, 1),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}  # fmt: skip

_FUSED = {"NONE": _clip(None, None), "RELU": _clip(0, None), "RELU6": _clip(0, 6),
          "RELU_N1_TO_1": _clip(-1, 1)}  # fmt: skip


class Cone:
    """The operators between one tensor and the result that depends on it alone."""

    def __init__(self, source: Tensor, ops: list[Op]) -> None:
        self.source, self.ops = source, ops

    def evaluate(self, at: Values) -> Values:
        known = {id(self.source): at}
        result = at
        with np.errstate(all="ignore"):
            for op in self.ops:
                operands = [
                    known[id(tensor)] if id(tensor) in known else scalar(tensor)
                    for tensor in op.inputs
                ]
                values = _FUNCTIONS[op.name](*operands)
                result = values if op.activation == "NONE" else _FUSED[op.activation](values)
                known[id(op.outputs[0])] = result
        return np.asarray(np.broadcast_to(result, at.shape))


class Cones:
    """Finds them in a graph."""

    def __init__(self, graph: Graph) -> None:
        self.made = {
            id(op.outputs[0]): (place, op)
            for place, op in enumerate(graph.ops)
            if op.name in _FUNCTIONS and op.activation in _FUSED
        }

    def ending_at(self, op: Op) -> list[Cone]:
        """Each tensor that the result depends on alone, the farthest first."""
        if id(op.outputs[0]) not in self.made:
            return []
        open_: dict[int, Tensor] = {id(op.outputs[0]): op.outputs[0]}
        ops: list[tuple[int, Op]] = []
        found: list[Cone] = []
        while len(ops) < LARGEST:
            # Latest first: then all readers of a tensor are in before the one that makes it.
            latest = max(open_, key=lambda key: self.made.get(key, (-1, None))[0])
            if latest not in self.made:
                break
            del open_[latest]
            ops.append(self.made[latest])
            for tensor in ops[-1][1].reads():
                if not tensor.is_constant:
                    open_[id(tensor)] = tensor
                elif scalar(tensor) is None:
                    return found[::-1]
            if not open_:
                break
            if len(open_) == 1 and len(ops) > 1:
                (source,) = open_.values()
                found.append(Cone(source, [one for _, one in sorted(ops, key=lambda one: one[0])]))
        return found[::-1]
