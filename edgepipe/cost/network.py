"""A network as costs see it: nodes on values whose shape may be known, from whatever file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]

BITS = {
    "float32": 32, "float64": 64, "float16": 16, "bfloat16": 16, "bool": 8,
    "int8": 8, "int16": 16, "int32": 32, "int64": 64, "int4": 4, "int2": 2,
    "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64, "uint4": 4,
    "complex64": 64, "complex128": 128, "float4e2m1": 4, "float8e4m3fn": 8,
    "float8e4m3fnuz": 8, "float8e5m2": 8, "float8e5m2fnuz": 8,
}  # fmt: skip
"""Bits of one element; types without a fixed size, such as texts, are not here."""


LARGEST = 1 << 62
"""Elements; what claims more is damaged, and has no size worth showing."""


@dataclass(frozen=True)
class Scale:
    """real = scale * (stored - zero_point) of one end; several scales lie along an axis."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    dtype: str

    @property
    def range(self) -> tuple[float, float] | None:
        """The real numbers that the integers reach, None where each channel has its own."""
        bits = BITS.get(self.dtype, 0)
        if len(self.scale) != 1 or "int" not in self.dtype or not bits:
            return None
        low, high = (0, 2**bits - 1) if self.dtype[0] == "u" else (-(2 ** (bits - 1)), 0)
        high = high or 2 ** (bits - 1) - 1
        zero = self.zero_point[0] if self.zero_point else 0
        return (low - zero) * self.scale[0], (high - zero) * self.scale[0]

    def to_json(self) -> dict[str, Any]:
        return {
            "scale": list(self.scale),
            "zero_point": list(self.zero_point),
            "dtype": self.dtype,
            "range": self.range,
        }


@dataclass(eq=False)
class Value:
    """A tensor. `stored` names where a constant's bytes are: two with one place are stored once."""

    name: str
    shape: Shape | None
    dtype: str
    stored: object = None
    weight: bool = False
    variable: bool = False
    scale: Scale | None = None

    @property
    def constant(self) -> bool:
        return self.stored is not None

    @property
    def elements(self) -> int | None:
        size = None if self.shape is None else math.prod(self.shape)
        return None if size is None or size > LARGEST else size

    @property
    def nbytes(self) -> int | None:
        bits, size = BITS.get(self.dtype), self.elements
        return None if size is None or bits is None else (size * bits + 7) // 8


@dataclass(eq=False)
class Node:
    """One operator. `bodies` are the graphs that it runs, as places in `Network.graphs`."""

    kind: str
    name: str
    inputs: list[Value | None]
    outputs: list[Value]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    bodies: tuple[int, ...] = ()

    def shape(self, place: int) -> Shape | None:
        """The shape of an input, None where it is left out or unknown."""
        found = self.inputs[place] if place < len(self.inputs) else None
        return None if found is None else found.shape

    def result(self) -> int | None:
        """Elements of all outputs."""
        total = 0
        for value in self.outputs:
            if value.elements is None:
                return None
            total += value.elements
        return total

    def reads(self) -> Iterator[Value]:
        return (value for value in self.inputs if value is not None)


@dataclass(eq=False)
class Graph:
    name: str
    nodes: list[Node] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)


@dataclass(eq=False)
class Network:
    """The first graph runs; the others are bodies that its nodes name. `constants` is all that
    the file stores."""

    graphs: list[Graph]
    constants: list[Value] = field(default_factory=list)

    @property
    def main(self) -> Graph:
        return self.graphs[0]

    def unknown(self) -> int:
        """Values between the nodes of which the shape isn't known."""
        return sum(
            value.shape is None for graph in self.graphs for node in graph.nodes
            for value in node.outputs
        )  # fmt: skip
