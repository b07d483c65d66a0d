"""Layer normalization as TensorFlow writes it, brought to a form that every converter can follow.

Keras computes `x * g + (beta - mean * g)` with `g = deviation * gamma`. Where the channels come
second, both sides of that product are broadcast ([1, 1, H, W] by [1, C, 1, 1]); onnx2tf 2.6.9
turns one side of such a product to channels last and not the other, and writes a file that no
interpreter loads. `(x - mean) * deviation * gamma + beta` is the same without that product, and
loses fewer digits where the mean is large. The difference is the one that the variance is made
of: a second reader of the mean would keep a transpose that onnx2tf has no shape for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class _Match:
    """The tensors of one `source * factor + (shift - mean * factor)`; no shift is ''."""

    source: str
    mean: str
    factor: str
    shift: str


class _Graph:
    """Who makes each tensor, how many read it, and which are constant."""

    def __init__(self, graph: Any) -> None:
        self.maker = {name: node for node in graph.node for name in node.output}
        self.readers = Counter(name for node in graph.node for name in node.input)
        self.readers.update(value.name for value in graph.output)
        self.constants = {tensor.name for tensor in graph.initializer}

    def made_by(self, name: str, op: str) -> Any:
        node = self.maker.get(name)
        return node if node is not None and node.op_type == op else None

    def only_here(self, name: str, op: str) -> Any:
        return self.made_by(name, op) if self.readers[name] == 1 else None


def subtract_mean_first(model: Any) -> int:
    """How many normalizations were rewritten; what they no longer read is left behind."""
    graph = model.graph
    known = _Graph(graph)
    nodes: list[Any] = []
    count = 0
    centered: dict[tuple[str, str], str] = {}
    for node in graph.node:
        if node.op_type == "Sub":
            centered.setdefault((node.input[0], node.input[1]), node.output[0])
        match = _match(known, node) if node.op_type == "Add" else None
        start = centered.get((match.source, match.mean), "") if match is not None else ""
        if match is not None and start:
            nodes.extend(_rewritten(known, match, start, node.output[0]))
            count += 1
        else:
            nodes.append(node)
    if count:
        del graph.node[:]
        graph.node.extend(nodes)
    return count


def _match(graph: _Graph, node: Any) -> _Match | None:
    for scaled, rest in _both_ways(node):
        product = graph.only_here(scaled, "Mul")
        if product is None:
            continue
        for moved, shift in _with_shift(graph, rest):
            for source, factor in _both_ways(product):
                mean = _mean(graph, moved, factor)
                if mean:
                    return _Match(source, mean, factor, shift)
    return None


def _with_shift(graph: _Graph, name: str) -> Iterator[tuple[Any, str]]:
    """`-mean * factor` alone, or the sum of it and of a shift."""
    product = graph.only_here(name, "Mul")
    if product is not None:
        yield product, ""
    added = graph.only_here(name, "Add")
    for moved, shift in _both_ways(added) if added is not None else ():
        product = graph.only_here(moved, "Mul")
        if product is not None and shift in graph.constants:
            yield product, shift


def _mean(graph: _Graph, moved: Any, factor: str) -> str:
    """What is negated and multiplied by the same factor, '' where it is something else."""
    for negated, other in _both_ways(moved):
        negation = graph.made_by(negated, "Neg")
        if other == factor and negation is not None:
            return str(negation.input[0])
    return ""


def _rewritten(graph: _Graph, match: _Match, centered: str, result: str) -> Iterator[Any]:
    make = import_module("onnx.helper").make_node
    steps = [("Mul", factor) for factor in _factors(graph, match.factor)]
    if match.shift:
        steps.append(("Add", match.shift))
    value = centered
    for index, (op, operand) in enumerate(steps, start=1):
        made = result if index == len(steps) else f"{result}_step{index}"
        yield make(op, [value, operand], [made])
        value = made


def _factors(graph: _Graph, name: str) -> list[str]:
    """The factor in parts, where it is a product with a constant that nothing else reads."""
    product = graph.made_by(name, "Mul")
    if product is not None and graph.readers[name] == 2:  # by the source and by the mean
        for deviation, gamma in _both_ways(product):
            if gamma in graph.constants:
                return [deviation, gamma]
    return [name]


def _both_ways(node: Any) -> Iterator[tuple[str, str]]:
    first, second = node.input
    yield first, second
    yield second, first
