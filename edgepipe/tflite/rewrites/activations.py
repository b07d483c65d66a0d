"""Puts activations that are in pieces back into one operator, told by their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from edgepipe.tflite import edit
from edgepipe.tflite.elementwise import Cone, Cones, Values
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.rewrite import Rewrite

_AT: Values = np.concatenate([np.linspace(-9, 9, 181), [-60.0, -25.0, 25.0, 60.0]])
"""Where functions are compared: dense where activations bend, and far out."""

_LAST = ("MUL", "DIV", "ADD", "SUB", "MAXIMUM", "MINIMUM", "RELU6", "RELU")
"""What an activation in pieces can end with."""


def _gelu(x: Values) -> Values:
    erf = np.array([math.erf(value / math.sqrt(2)) for value in x])
    return np.asarray(0.5 * x * (1 + erf))


def _gelu_tanh(x: Values) -> Values:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)))


_KNOWN: tuple[tuple[str, dict[str, Any], Callable[[Values], Values]], ...] = (
    ("GELU", {"approximate": False}, _gelu),
    ("GELU", {"approximate": True}, _gelu_tanh),
    ("HARD_SWISH", {}, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    ("LOGISTIC", {}, lambda x: 1 / (1 + np.exp(-x))),
    ("TANH", {}, np.tanh),
    ("RELU6", {}, lambda x: np.clip(x, 0, 6)),
    ("RELU", {}, lambda x: np.maximum(x, 0)),
)
_VALUES = tuple((name, options, function(_AT)) for name, options, function in _KNOWN)


class Activations(Rewrite):
    """GELU (of erf or tanh), HARD_SWISH, LOGISTIC, TANH, RELU6, RELU and LEAKY_RELU.

    Each piece rounds to int8 on its own scale, and EXP, POW or ABS stay float. However the
    pieces are arranged: the operators that depend on one tensor alone are evaluated, and what
    they give is compared with the functions that TFLite has.
    """

    name: ClassVar[str] = "activations"
    says: ClassVar[str] = "activations in pieces became one operator"

    def places(self, graph: Graph) -> Iterator[Op]:
        cones = Cones(graph)
        taken: set[int] = set()
        # From the end: what is a part of a larger function is found with that.
        for op in reversed(graph.ops):
            if op.name in _LAST and id(op) not in taken:
                found = _recognized(cones, op)
                if found is not None:
                    taken.update(id(one) for one in found[0].ops)
                    yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        found = _recognized(Cones(graph), op)
        if found is None:
            return False
        cone, name, options = found
        edit.substitute(graph, [op], [Op.make(name, [cone.source], op.outputs, **options)])
        return True


def _recognized(cones: Cones, op: Op) -> tuple[Cone, str, dict[str, Any]] | None:
    for cone in cones.ending_at(op):
        if cone.source.shape != op.outputs[0].shape or cone.source.dtype != "float32":
            continue
        values = cone.evaluate(_AT)
        for name, options, known in _VALUES:
            if _equal(values, known):
                return cone, name, options
        slope = -float(cone.evaluate(np.array([-1.0]))[0])
        if 0 < slope < 1 and _equal(values, np.where(_AT > 0, _AT, slope * _AT)):
            return None if op.name == "MAXIMUM" else (cone, "LEAKY_RELU", {"alpha": slope})
    return None


def _equal(values: Values, known: Values) -> bool:
    return bool(np.all(np.abs(values - known) <= 3e-6 * (1 + np.abs(known))))


REWRITE = Activations()
