"""Counts what a converter put into a TFLite graph that the model did not ask for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgepipe.tflite.model import Operator, Subgraph, TfliteModel

RUNTIME_CUSTOM_OPS = {"TFLite_Detection_PostProcess"}
"""Custom operators that LiteRT's Python wheel registers by itself."""

_ERF = 0.3275911
"""The constant of erf's polynomial (Abramowitz and Stegun 7.1.26): TFLite has no ERF."""

_GELU_TANH = 0.044715
_REACH = 6
"""Operators between the parts of one activation, at most."""


@dataclass(frozen=True)
class Quality:
    """`custom` counts operators that no stock runtime has, `flex` those that need TensorFlow's.

    `split_activations` counts activations that TFLite has as one operator and that are in
    pieces. Normalizations are always in pieces, as TFLite has no operator for them: they are
    counted, but not as inserted.
    """

    transposes: int
    custom: int
    flex: int
    split_activations: dict[str, int]
    normalizations: int

    @property
    def inserted(self) -> int:
        return self.transposes + self.custom + self.flex + sum(self.split_activations.values())


def assess(model: TfliteModel) -> Quality:
    operators = [op for graph in model.subgraphs for op in graph.operators]
    custom = [op.custom for op in operators if op.name == "CUSTOM"]
    flex = sum(code.startswith("Flex") for code in custom)
    split: Counter[str] = Counter()
    normalizations = 0
    for subgraph in model.subgraphs:
        graph = _Graph(model, subgraph)
        split.update(_split_activations(graph))
        normalizations += sum(_is_normalization(graph, op) for op in subgraph.operators)
    return Quality(
        transposes=sum(op.name == "TRANSPOSE" for op in operators),
        custom=sum(code not in RUNTIME_CUSTOM_OPS for code in custom) - flex,
        flex=flex,
        split_activations=dict(split),
        normalizations=normalizations,
    )


class _Graph:
    """Who makes and who reads each tensor, and the constants that are one number."""

    def __init__(self, model: TfliteModel, subgraph: Subgraph) -> None:
        self.model, self.subgraph = model, subgraph
        self.readers: dict[int, list[Operator]] = defaultdict(list)
        for op in subgraph.operators:
            for index in dict.fromkeys(op.inputs):
                self.readers[index].append(op)

    def after(self, op: Operator) -> list[Operator]:
        return [reader for index in op.outputs for reader in self.readers[index]]

    def scalar(self, index: int) -> float | None:
        """The number that a constant holds everywhere, None where it isn't one."""
        if index < 0:
            return None
        tensor = self.subgraph.tensors[index]
        if not tensor.constant or tensor.dtype not in ("float32", "float16") or tensor.size > 4096:
            return None
        values = self.model.constant(tensor)
        if values is None or values.size == 0 or np.ptp(values) != 0:
            return None
        return float(values.flat[0])

    def has_scalar(self, op: Operator, value: float) -> bool:
        found = (self.scalar(index) for index in op.inputs)
        return any(number is not None and abs(number - value) < 1e-4 for number in found)

    def variable_inputs(self, op: Operator) -> set[int]:
        tensors = self.subgraph.tensors
        return {i for i in op.inputs if i >= 0 and not tensors[i].constant}

    def downstream(self, op: Operator) -> Iterator[Operator]:
        """Operators that follow, nearest first, as far as one activation reaches."""
        near = [op]
        for _ in range(_REACH):
            near = [reader for one in near for reader in self.after(one)][:64]
            yield from near


def _split_activations(graph: _Graph) -> Counter[str]:
    found: Counter[str] = Counter()
    for op in graph.subgraph.operators:
        for name, matches in _PATTERNS.items():
            found[name] += matches(graph, op)
    return +found


def _is_hard_swish(graph: _Graph, op: Operator) -> bool:
    """x * relu6(x + 3) / 6, in any order of the factors."""
    if op.name != "ADD" or not graph.has_scalar(op, 3.0):
        return False
    clipped = op.activation == "RELU6" or any(one.name == "RELU6" for one in graph.after(op))
    return clipped and _multiplied_by_own_input(graph, op)


def _is_gelu_tanh(graph: _Graph, op: Operator) -> bool:
    """The cubic term of tanh-GELU, with the TANH behind it."""
    if op.name != "MUL" or not graph.has_scalar(op, _GELU_TANH):
        return False
    return any(one.name == "TANH" for one in graph.downstream(op))


def _is_gelu_erf(graph: _Graph, op: Operator) -> bool:
    return op.name in ("MUL", "ADD") and graph.has_scalar(op, _ERF)


def _is_leaky_relu(graph: _Graph, op: Operator) -> bool:
    """max(x, a * x) with a constant a."""
    if op.name != "MUL" or not any(_is_slope(graph.scalar(index)) for index in op.inputs):
        return False
    own = graph.variable_inputs(op)
    return any(one.name == "MAXIMUM" and own & set(one.inputs) for one in graph.after(op))


def _is_relu6(graph: _Graph, op: Operator) -> bool:
    """min(max(x, 0), 6), in either order."""
    first, second, bounds = op.name, "", (0.0, 0.0)
    if first in ("MAXIMUM", "RELU"):
        second, bounds = "MINIMUM", (0.0, 6.0)
    elif first == "MINIMUM":
        second, bounds = "MAXIMUM", (6.0, 0.0)
    if not second or (first != "RELU" and not graph.has_scalar(op, bounds[0])):
        return False
    after = graph.after(op)
    return any(one.name == second and graph.has_scalar(one, bounds[1]) for one in after)


def _is_normalization(graph: _Graph, op: Operator) -> bool:
    """A variance over the tensor's own mean, with the root that divides by it behind."""
    if op.name not in ("SQUARED_DIFFERENCE", "SQUARE", "MUL", "POW"):
        return False
    if op.name == "MUL" and len(set(op.inputs)) != 1:
        return False
    if not any(one.name in ("MEAN", "SUM") for one in graph.after(op)):
        return False
    return any(one.name in ("RSQRT", "SQRT", "POW") for one in graph.downstream(op))


def _is_slope(value: float | None) -> bool:
    return value is not None and 0.0 < value < 1.0


def _multiplied_by_own_input(graph: _Graph, op: Operator) -> bool:
    own = graph.variable_inputs(op)
    return any(one.name == "MUL" and own & set(one.inputs) for one in graph.downstream(op))


_PATTERNS = {
    "HARD_SWISH": _is_hard_swish,
    "GELU": lambda graph, op: _is_gelu_tanh(graph, op) or _is_gelu_erf(graph, op),
    "LEAKY_RELU": _is_leaky_relu,
    "RELU6": _is_relu6,
}
