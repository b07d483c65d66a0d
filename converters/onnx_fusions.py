"""Activations that an exporter left in pieces, put together again as one ONNX operator.

Before a simplifier runs: it folds their factors into the weights behind, and nothing finds
them after that.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

log = logging.getLogger(__name__)

Match: TypeAlias = "tuple[str, str, list[Any]] | None"
"""The activation's input, its output, and the nodes that it replaces, the last one first."""

OPSETS = {"Gelu": 20, "HardSwish": 14}
"""The opset that brought each operator (onnx/docs/Changelog.md)."""


class _Graph:
    """Who makes and who reads each tensor, and constants of one number."""

    def __init__(self, graph: Any) -> None:
        self.maker = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, int] = defaultdict(int)
        for node in graph.node:
            for name in node.input:
                self.readers[name] += 1
        for value in graph.output:
            self.readers[value.name] += 1
        self.numbers = _numbers(graph)

    def is_number(self, name: str, value: float) -> bool:
        found = self.numbers.get(name)
        return found is not None and math.isclose(found, value, rel_tol=1e-4)

    def split(self, node: Any, value: float) -> str:
        """The other input of a commutative node that has the number as one input, else ''."""
        if node is None or len(node.input) != 2:
            return ""
        first, second = node.input
        if self.is_number(second, value):
            return str(first)
        return str(second) if self.is_number(first, value) else ""

    def inner(self, name: str, op: str) -> Any:
        """The node that makes a tensor, if it is of this type and only one node reads it."""
        node = self.maker.get(name)
        return node if node is not None and node.op_type == op and self.readers[name] == 1 else None


def fuse(model: Any) -> Any:
    """The model with GELU and HardSwish whole, at the opset that has them; unchanged without."""
    needed = max((OPSETS[op] for op, _ in _matches(model.graph)), default=0)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if 0 < opset < needed:
        converter = import_module("onnx.version_converter")
        try:
            model = converter.convert_version(model, needed)
        except Exception as error:  # onnx's C++ errors share no base class
            log.warning("activations stay in pieces, opset %d stays: %s", opset, error)
            return model
    if needed:
        _replace(model.graph)
    return model


def _replace(graph: Any) -> None:
    helper = import_module("onnx.helper")
    fresh: dict[str, Any] = {}
    gone: set[str] = set()
    for op, (source, result, nodes) in _matches(graph):
        fresh[result] = helper.make_node(op, [source], [result], name=nodes[0].name)
        gone.update(node.output[0] for node in nodes)
    nodes = []
    for node in graph.node:
        first = node.output[0] if node.output else ""
        if first in fresh:
            nodes.append(fresh[first])
        elif first not in gone:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _matches(graph: Any) -> list[tuple[str, tuple[str, str, list[Any]]]]:
    known = _Graph(graph)
    found = []
    used: set[str] = set()
    for node in graph.node:
        for op, match in _PATTERNS.items():
            hit = match(known, node)
            if hit is not None and used.isdisjoint(one.output[0] for one in hit[2]):
                used.update(one.output[0] for one in hit[2])
                found.append((op, hit))
    return found


def _gelu(graph: _Graph, node: Any) -> Match:
    """x * (1 + erf(x / sqrt 2)) * 0.5, the half in either place."""
    if node.op_type != "Mul" or len(node.input) != 2:
        return None
    product = graph.inner(graph.split(node, 0.5), "Mul")
    if product is not None:
        return _gelu_product(graph, node, product)
    for half, other in (tuple(node.input), tuple(reversed(node.input))):
        scaled = graph.inner(half, "Mul")
        source = graph.split(scaled, 0.5) if scaled is not None else ""
        parts = _one_plus_erf(graph, other, source) if source else None
        if parts is not None:
            return source, node.output[0], [node, scaled, *parts]
    return None


def _gelu_product(graph: _Graph, node: Any, product: Any) -> Match:
    for source, other in (tuple(product.input), tuple(reversed(product.input))):
        parts = _one_plus_erf(graph, other, source)
        if parts is not None:
            return source, node.output[0], [node, product, *parts]
    return None


def _one_plus_erf(graph: _Graph, name: str, source: str) -> list[Any] | None:
    add = graph.inner(name, "Add")
    erf = graph.inner(graph.split(add, 1.0), "Erf") if add is not None else None
    if erf is None:
        return None
    for op, factor in (("Div", math.sqrt(2)), ("Mul", math.sqrt(0.5))):
        scaled = graph.inner(erf.input[0], op)
        if scaled is not None and scaled.input[0] == source:
            if graph.is_number(scaled.input[1], factor):
                return [add, erf, scaled]
        elif scaled is not None and op == "Mul" and graph.split(scaled, factor) == source:
            return [add, erf, scaled]
    return None


def _hard_swish(graph: _Graph, node: Any) -> Match:
    """x * hard_sigmoid(x), the latter whole or as clip(x + 3, 0, 6) / 6."""
    if node.op_type not in ("Mul", "Div") or len(node.input) != 2:
        return None
    outer = graph.split(node, 1 / 6 if node.op_type == "Mul" else 6.0)
    product = graph.inner(outer, "Mul") if outer else None
    if product is not None:
        for source, other in (tuple(product.input), tuple(reversed(product.input))):
            parts = _clipped(graph, other, source)
            if parts is not None:
                return source, node.output[0], [node, product, *parts]
    if node.op_type != "Mul":
        return None
    for source, other in (tuple(node.input), tuple(reversed(node.input))):
        parts = _hard_sigmoid(graph, other, source)
        if parts is not None:
            return source, node.output[0], [node, *parts]
    return None


def _hard_sigmoid(graph: _Graph, name: str, source: str) -> list[Any] | None:
    whole = graph.inner(name, "HardSigmoid")
    if whole is not None and whole.input[0] == source:
        values = {attribute.name: attribute.f for attribute in whole.attribute}
        alpha, beta = values.get("alpha", 0.2), values.get("beta", 0.5)
        return [whole] if abs(alpha - 1 / 6) < 1e-6 and abs(beta - 0.5) < 1e-6 else None
    for op, factor in (("Mul", 1 / 6), ("Div", 6.0)):
        scaled = graph.inner(name, op)
        if scaled is not None:
            parts = _clipped(graph, graph.split(scaled, factor), source)
            if parts is not None:
                return [scaled, *parts]
    return None


def _clipped(graph: _Graph, name: str, source: str) -> list[Any] | None:
    clip = graph.inner(name, "Clip")
    if clip is None or len(clip.input) != 3:
        return None
    if graph.numbers.get(clip.input[1]) != 0 or graph.numbers.get(clip.input[2]) != 6:
        return None
    add = graph.inner(clip.input[0], "Add")
    return [clip, add] if add is not None and graph.split(add, 3.0) == source else None


def _numbers(graph: Any) -> dict[str, float]:
    """Float constants that hold one number: initializers and Constant nodes."""
    to_array = import_module("onnx.numpy_helper").to_array
    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensors.append((node.output[0], node.attribute[0].t))
    found = {}
    for name, tensor in tensors:
        if tensor.data_type in (1, 10, 11) and math.prod(tensor.dims) == 1:
            found[name] = float(to_array(tensor).item())
    return found


_PATTERNS: dict[str, Callable[[_Graph, Any], Match]] = {"Gelu": _gelu, "HardSwish": _hard_swish}
