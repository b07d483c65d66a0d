"""A TFLite file as a network whose cost can be counted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepipe.cost.network import Graph, Network, Node, Scale, Shape, Value
from edgepipe.tflite import graph as tflite
from edgepipe.tflite import loading
from edgepipe.tflite.names import WEIGHT_TYPES

Shapes = Mapping[int, Shape]

_BODIES = {
    "IF": ("then_subgraph_index", "else_subgraph_index"),
    "WHILE": ("cond_subgraph_index", "body_subgraph_index"),
    "CALL": ("subgraph",),
    "CALL_ONCE": ("init_subgraph_index",),
}


def read(path: Path) -> Network:
    """The network of a file, with the shapes that it says."""
    return of(loading.load(path))


def of(model: tflite.Model, shapes: Shapes | None = None) -> Network:
    """`shapes` are those of the main graph's tensors by number, where a runtime found them; what
    stays open in the file then has no known shape in the bodies."""
    names = _end_names(model)
    graphs, constants = [], []
    for number, graph in enumerate(model.graphs):
        values = {
            tensor: _value(
                tensor, names.get(tensor, tensor.name), _shape(tensor, number, at, shapes)
            )
            for at, tensor in enumerate(graph.tensors)
        }
        constants += [value for value in values.values() if value.constant]
        graphs.append(
            Graph(
                graph.name or f"graph {number}",
                [_node(op, values) for op in graph.ops],
                [values[tensor] for tensor in graph.inputs],
                [values[tensor] for tensor in graph.outputs],
            )
        )
    return Network(graphs, constants)


def _end_names(model: tflite.Model) -> dict[tflite.Tensor, str]:
    """The names that `inspect` shows: those of the main graph's first signature."""
    for signature in model.signatures:
        if signature.graph is model.main:
            return {tensor: name for name, tensor in (*signature.inputs, *signature.outputs)}
    return {}


def _shape(tensor: tflite.Tensor, graph: int, at: int, shapes: Shapes | None) -> Shape | None:
    if shapes is None or tensor.is_constant:
        return tensor.shape
    return shapes.get(at) if graph == 0 else None if tensor.dynamic else tensor.shape


def _value(tensor: tflite.Tensor, name: str, shape: Shape | None) -> Value:
    constant = tensor.is_constant
    return Value(
        name=name.encode("utf-8", "replace").decode(),
        shape=shape,
        dtype=tensor.dtype,
        stored=id(tensor.data) if constant else None,
        weight=constant and tensor.dtype in WEIGHT_TYPES,
        variable=tensor.variable,
        scale=_scale(tensor),
    )


def _scale(tensor: tflite.Tensor) -> Scale | None:
    found = tensor.quantization
    if found is None or not found.scales or "int" not in tensor.dtype:
        return None
    return Scale(found.scales, found.zero_points, tensor.dtype)


def _node(op: tflite.Op, values: Mapping[tflite.Tensor, Value]) -> Node:
    attributes: dict[str, Any] = {} if op.options is None else dict(op.options.values)
    outputs = [values[tensor] for tensor in op.outputs]
    for tensor, value in zip(op.outputs, outputs, strict=True):
        if op.name == "CUSTOM" and not tensor.shape and not tensor.has_rank:
            value.shape = None  # converters leave out what custom operators give
    return Node(
        kind=op.label,
        name=outputs[0].name if outputs else "",
        inputs=[None if tensor is None else values[tensor] for tensor in op.inputs],
        outputs=outputs,
        attributes=attributes,
        bodies=tuple(
            attributes[key]
            for key in _BODIES.get(op.name, ())
            if isinstance(attributes.get(key), int)
        ),
    )
