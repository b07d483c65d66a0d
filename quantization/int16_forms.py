"""Says operators without an int16 kernel with ones that have one."""

from __future__ import annotations

from pathlib import Path

from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Graph, Op, fresh_name


def rewrite(path: Path) -> int:
    """Change the float file; how many operators were said otherwise.

    SQUARED_DIFFERENCE has an int8 kernel, but none for int16: every layer normalization would
    stay in float for it.
    """
    model = loading.load(path)
    found = [
        (graph, op)
        for graph in model.graphs
        for op in graph.operators("SQUARED_DIFFERENCE")
        if op.outputs[0].dtype == "float32"
    ]
    for graph, op in found:
        _subtract_and_multiply(graph, op)
    if found:
        saving.save(model, path)
    return len(found)


def _subtract_and_multiply(graph: Graph, op: Op) -> None:
    result = op.outputs[0]
    difference = result.like(fresh_name(graph, f"{result.name}/difference"))
    steps = [
        Op.make("SUB", op.inputs, [difference], fused_activation_function="NONE"),
        Op.make("MUL", [difference, difference], [result], fused_activation_function="NONE"),
    ]
    edit.substitute(graph, [op], steps)
