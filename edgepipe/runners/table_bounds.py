"""How large the values of an input may be that picks rows of a table, read off the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from edgepipe.artifact import Port, Signature
from edgepipe.runners.static_function import freeze

PASSING = {
    "Cast": 0,
    "Identity": 0,
    "Reshape": 0,
    "ExpandDims": 0,
    "Squeeze": 0,
    "StridedSlice": 0,
    "Transpose": 0,
    "EnsureShape": 0,
    "SelectV2": 2,  # Keras 3 writes take(x) as where(x < 0, x + size, x)
}
"""Ops that hand indices on unchanged, and which of their inputs those are."""


def bounded(signature: Signature, concrete: Any) -> Signature:
    """The signature with `high` on every input that reaches a constant table as an index."""
    frozen = freeze(concrete)
    places = {tensor.name: place for place, tensor in enumerate(frozen.inputs)}
    highs: dict[int, int] = {}
    for source, rows in _lookups(frozen.graph):
        place = places.get(source)
        if place is not None:
            highs[place] = min(rows, highs.get(place, rows))
    inputs = tuple(
        _with_high(port, highs.get(place)) for place, port in enumerate(signature.inputs)
    )
    return replace(signature, inputs=inputs)


def _with_high(port: Port, high: int | None) -> Port:
    return port if high is None else replace(port, high=high)


def _lookups(graph: Any) -> Iterator[tuple[str, int]]:
    """(name of the tensor that the indices come from, rows of the table) of each lookup."""
    for op in graph.get_operations():
        if op.type in ("Gather", "GatherV2", "ResourceGather"):
            table, indices = op.inputs[0], op.inputs[1]
            rows = table.shape[0] if table.shape.rank and _is_constant(table) else None
            if rows:
                yield _origin(indices), int(rows)


def _is_constant(tensor: Any) -> bool:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return bool(tensor.op.type == "Const")


def _origin(tensor: Any) -> str:
    while tensor.op.type in PASSING:
        tensor = tensor.op.inputs[PASSING[tensor.op.type]]
    return str(tensor.name)
