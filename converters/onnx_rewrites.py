"""Rewrites of an ONNX graph that no simplifier makes and that converters stumble over."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any


def tidy(model: Any) -> None:
    """Constants as initializers, nothing that only passes on, nothing that leads nowhere."""
    lift_constants(model)
    drop_pass_through(model)
    drop_dead_ends(model)


def set_constants(model: Any, values: dict[str, float]) -> None:
    """Inputs that are always one number: their readers get it, and the input stays, unread."""
    helper = import_module("onnx.helper")
    numpy = import_module("numpy")
    numpy_helper = import_module("onnx.numpy_helper")
    for value in model.graph.input:
        if value.name not in values:
            continue
        kind = value.type.tensor_type
        shape = [size.dim_value for size in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        data = numpy.full(shape, values[value.name], dtype)
        fixed = f"{value.name}_constant"
        model.graph.initializer.append(numpy_helper.from_array(data, fixed))
        for graph in _graphs(model.graph):
            for node in graph.node:
                for index, name in enumerate(node.input):
                    if name == value.name:
                        node.input[index] = fixed


def rename_ends(model: Any) -> dict[str, str]:
    """Inputs and outputs under names that every framework can hold: old name -> new name."""
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    names: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        plain = re.sub(r"\W", "_", value.name)
        while plain != value.name and plain in taken:
            plain += "_"
        taken.add(plain)
        names[value.name] = plain
        value.name = plain
    for body in _graphs(graph):
        for node in body.node:
            for ends in (node.input, node.output):
                for index, name in enumerate(ends):
                    ends[index] = names.get(name, name)
    return names


def lift_constants(model: Any) -> None:
    """Constant nodes become initializers: onnx2tf fuses GELU only where it finds those."""
    numpy_helper = import_module("onnx.numpy_helper")
    numpy = import_module("numpy")
    graph, kept = model.graph, []
    for node in graph.node:
        value = _constant_value(node, numpy_helper, numpy)
        if node.op_type != "Constant" or value is None:
            kept.append(node)
        else:
            graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    _replace_nodes(graph, kept)


def _constant_value(node: Any, numpy_helper: Any, numpy: Any) -> Any:
    """The array of a Constant node, None for the kinds that no initializer can hold."""
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        return numpy_helper.to_array(attribute.t)
    kinds = {
        "value_float": (attribute.f, "float32"),
        "value_int": (attribute.i, "int64"),
        "value_floats": (list(attribute.floats), "float32"),
        "value_ints": (list(attribute.ints), "int64"),
    }
    if attribute.name not in kinds:
        return None
    values, dtype = kinds[attribute.name]
    return numpy.array(values, dtype)


def drop_pass_through(model: Any) -> None:
    """Identity, Concat of one (onnx2tf refuses it) and inference-time Dropout go."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    inner = _names_in_bodies(graph)
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if _passes_on(node) and node.output[0] not in outputs | inner:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    for node in kept:
        if node.op_type == "Concat" and len(node.input) == 1:
            node.op_type = "Identity"
            del node.attribute[:]
    _replace_nodes(graph, kept)


def _passes_on(node: Any) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Dropout":
        # A third input may switch it on; a second output is the mask.
        return len(node.output) == 1 and (len(node.input) < 3 or not node.input[2])
    return node.op_type == "Identity" or (node.op_type == "Concat" and len(node.input) == 1)


def drop_dead_ends(model: Any) -> None:
    """Nodes, initializers and shapes that lead to no output."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        kept.append(node)
        needed.update(node.input)
        needed.update(_names_of_bodies(node))
    _replace_nodes(graph, list(reversed(kept)))
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    del graph.value_info[:]


def narrow_doubles(model: Any) -> bool:
    """Everything of 64-bit floats in 32 bits: no edge runtime computes in doubles."""
    numpy_helper = import_module("onnx.numpy_helper")
    double, single = 11, 1  # TensorProto.DataType
    changed = False
    for graph in _graphs(model.graph):
        for tensor in [*graph.initializer, *_attribute_tensors(graph)]:
            if tensor.data_type == double:
                narrow = numpy_helper.to_array(tensor).astype("float32")
                tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
                changed = True
        for value in [*graph.input, *graph.output, *graph.value_info]:
            if value.type.tensor_type.elem_type == double:
                value.type.tensor_type.elem_type = single
                changed = True
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype") and attribute.i == double:
                    attribute.i = single
                    changed = True
    return changed


def _graphs(graph: Any) -> list[Any]:
    found = [graph]
    for node in graph.node:
        for body in _bodies(node):
            found.extend(_graphs(body))
    return found


def _attribute_tensors(graph: Any) -> list[Any]:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    return [attribute.t for attribute in attributes if attribute.HasField("t")]


def _bodies(node: Any) -> list[Any]:
    found = []
    for attribute in node.attribute:
        found.extend([attribute.g] if attribute.HasField("g") else [])
        found.extend(attribute.graphs)
    return found


def expand(model: Any, ops: set[str]) -> Any:
    """Operators replaced by the primitives in their own ONNX definition."""
    inliner = import_module("onnx.inliner")
    return inliner.inline_selected_functions(
        model, [("", op) for op in sorted(ops)], inline_schema_functions=True
    )


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)


def _names_in_bodies(graph: Any) -> set[str]:
    return {name for node in graph.node for name in _names_of_bodies(node)}


def _names_of_bodies(node: Any) -> set[str]:
    """Names that the bodies of an If or Loop read; those of the graph around may be among them."""
    found: set[str] = set()
    for body in _bodies(node):
        found.update(value.name for value in body.output)
        for inner in body.node:
            found.update(inner.input)
            found.update(_names_of_bodies(inner))
    return found
