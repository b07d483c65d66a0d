"""Lets functions that ask for XLA be inlined: a converter needs their operators, no speed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgepipe.runners.keras_loading import tensorflow

MUST_COMPILE = "_XlaMustCompile"


def has_compiled(concrete: Any) -> bool:
    """Whether a function within asks for XLA: Keras wraps every grouped convolution like that."""
    library = concrete.graph.as_graph_def().library
    return any(MUST_COMPILE in function.attr for function in library.function)


def without_compiled(frozen: Any) -> Any:
    """The frozen function with those functions as ordinary ones, under new names.

    TensorFlow's inlining passes leave a function alone that has the attribute, and tf2onnx then
    writes a StatefulPartitionedCall, which no ONNX runtime knows, and reports success.
    """
    tf = tensorflow()
    graph = frozen.graph.as_graph_def()
    renamed = {one.signature.name: f"{one.signature.name}_open" for one in graph.library.function}
    for function in graph.library.function:
        function.signature.name = renamed[function.signature.name]
        function.attr.pop(MUST_COMPILE, None)
    for node in _nodes(graph):
        node.attr.pop(MUST_COMPILE, None)
        for value in node.attr.values():
            _refer(value, renamed)
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    return wrapped.prune(
        [wrapped.graph.get_tensor_by_name(tensor.name) for tensor in frozen.inputs],
        [wrapped.graph.get_tensor_by_name(tensor.name) for tensor in frozen.outputs],
    )


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _refer(value: Any, renamed: dict[str, str]) -> None:
    functions = [value.func] if value.HasField("func") else list(value.list.func)
    for function in functions:
        function.name = renamed.get(function.name, function.name)
