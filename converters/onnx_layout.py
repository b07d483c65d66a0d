"""Which inputs of an ONNX graph hold channels first: those that a spatial operator reads."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

SPATIAL = {
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace",
    "GlobalAveragePool", "GlobalMaxPool", "GridSample", "GroupNormalization",
    "InstanceNormalization", "LpPool", "LRN", "MaxPool", "Resize", "SpaceToDepth", "Upsample",
}  # fmt: skip
"""Operators that ONNX defines on batch, channels, space: they tell an input's layout."""

AGNOSTIC = {
    "Abs", "Add", "Cast", "Ceil", "Clip", "Concat", "Div", "Elu", "Exp", "Floor", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min", "Mul", "Neg", "Pad", "Pow", "PRelu",
    "Reciprocal", "Relu", "Round", "Sigmoid", "Slice", "Softplus", "Split", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
"""Operators that keep a tensor's layout, whichever it is."""


def channels_first(graph: Any) -> set[str]:
    """Names of such inputs; a Transpose or Reshape in front says that the input is otherwise."""
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers[name].append(node)
    return {value.name for value in graph.input if _meets_spatial(value.name, readers)}


def _meets_spatial(name: str, readers: dict[str, list[Any]]) -> bool:
    todo, seen = [name], {name}
    while todo:
        tensor = todo.pop()
        for node in readers[tensor]:
            if node.op_type in SPATIAL and node.input[0] == tensor:
                return True
            if node.op_type in AGNOSTIC:
                fresh = set(node.output) - seen
                seen |= fresh
                todo.extend(fresh)
    return False


def channels_last(rank: int) -> tuple[int, ...]:
    """The permutation that brings the channels of a tensor of this rank to the end."""
    return (0, *range(2, rank), 1)


def permuted(shape: tuple[int | None, ...], axes: tuple[int, ...]) -> tuple[int | None, ...]:
    return tuple(shape[axis] for axis in axes)


def composed(first: tuple[int, ...] | None, then: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """One permutation for two in a row, None where it is none at all."""
    if first is None or then is None:
        return first or then
    both = tuple(first[axis] for axis in then)
    return None if both == tuple(range(len(both))) else both
