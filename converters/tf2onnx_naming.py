"""What tf2onnx leaves undone: the model's own names and order of ends, unknown operators."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from edgepipe.artifact import Port, Signature
from edgepipe.errors import BrokenOutput, StageFailed

NUMBERED = re.compile(r"(.*)__(\d+)(:\d+)?")
"""A name that tf2onnx made up (utils.make_name), with the number of an output behind it."""


def name_ends(
    proto: Any, signature: Signature, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    """Give the graph's tensors `inputs` and `outputs` the ports' names, and the ports' order."""
    graph = proto.graph
    # The traced function's own name is counted up in a process: two runs would differ by it.
    graph.name, graph.doc_string, proto.doc_string = "model", "", ""
    old_inputs = _present(graph.input, inputs)
    new_names = {
        old: port.name
        for old, port in zip(old_inputs, signature.inputs, strict=True)
        if old is not None
    }
    new_names.update(zip(outputs, (port.name for port in signature.outputs), strict=True))
    _renumber(graph)
    _rename(graph, _out_of_the_way(graph, new_names) | new_names)
    _order(graph.input, signature.inputs)
    _order(graph.output, signature.outputs)


def check_operators(proto: Any) -> None:
    """tf2onnx leaves operators that it doesn't know as they are, and reports success."""
    defs = importlib.import_module("onnx").defs
    version = {one.domain: one.version for one in proto.opset_import}
    unknown = sorted(
        {
            node.op_type
            for node in _all_nodes(proto.graph)
            if not node.domain and not defs.has(node.op_type, max_inclusive_version=version[""])
        }
    )
    if unknown:
        raise StageFailed(
            f"tf2onnx has no ONNX operators for: {', '.join(unknown)}",
            hint="the direct route to TFLite may have them.",
            ops=unknown,
        )


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for inner in _subgraphs(node):
            yield from _all_nodes(inner)


def _present(values: Any, tensors: Sequence[str]) -> list[str | None]:
    """The graph's name for each tensor: tf2onnx drops the ':0', and inputs that nothing reads."""
    have = {value.name for value in values}
    return [next((n for n in (one, one.partition(":")[0]) if n in have), None) for one in tensors]


def _renumber(graph: Any) -> None:
    """tf2onnx numbers what it adds in the order of its sets, another one in each run.

    What nodes make is numbered by its place, constants take the name of their first user.
    """
    made = (name for node in graph.node for name in node.output if NUMBERED.fullmatch(name))
    names = {name: NUMBERED.sub(rf"\1__{place}\3", name) for place, name in enumerate(made)}
    _rename(graph, names)
    _rename(graph, _constants_by_user(graph))
    _in_order_of_use(graph)


def _constants_by_user(graph: Any) -> dict[str, str]:
    constants = {one.name for one in graph.initializer}
    names: dict[str, str] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in constants:
                names.setdefault(name, f"{node.output[0]}/constant_{place}")
    return names


def _in_order_of_use(graph: Any) -> None:
    place = {name: at for at, name in enumerate(_names(graph))}
    ordered = sorted(graph.initializer, key=lambda one: place[one.name])
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def _out_of_the_way(graph: Any, new_names: dict[str, str]) -> dict[str, str]:
    """Inner tensors that bear a port's name by chance get another one."""
    taken = set(new_names.values())
    inner = [name for name in _names(graph) if name not in new_names]
    return {name: f"{name}/inner" for name in inner if name in taken}


def _names(graph: Any) -> dict[str, None]:
    """The names of all tensors, in the order in which the nodes come to them."""
    found: dict[str, None] = {}
    for node in graph.node:
        found |= dict.fromkeys((*node.input, *node.output))
        for inner in _subgraphs(node):
            found |= _names(inner)
    return found | dict.fromkeys(one.name for one in (*graph.initializer, *graph.input))


def _subgraphs(node: Any) -> list[Any]:
    return [
        *(attribute.g for attribute in node.attribute if attribute.HasField("g")),
        *(inner for attribute in node.attribute for inner in attribute.graphs),
    ]


def _rename(graph: Any, names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = names.get(f"{node.name}:0", names.get(node.name, node.name)).removesuffix(":0")
        for inner in _subgraphs(node):
            _rename(inner, names)


def _order(values: Any, ports: Sequence[Port]) -> None:
    """The ports' order and shapes; an input that nothing reads comes back, unread."""
    onnx = importlib.import_module("onnx")
    have = {value.name: value for value in values}
    ordered = []
    for port in ports:
        kind = onnx.helper.np_dtype_to_tensor_dtype(onnx.numpy_helper.np.dtype(port.dtype))
        if port.name in have and have[port.name].type.tensor_type.elem_type != kind:
            raise BrokenOutput(
                f"tf2onnx changed the type of {port.name!r} from {port.dtype}",
                tensor=port.name,
            )
        ordered.append(onnx.helper.make_tensor_value_info(port.name, kind, port.shape))
    del values[:]
    values.extend(ordered)
