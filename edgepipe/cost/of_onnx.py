"""An ONNX file as a network whose cost can be counted, read off its wire format."""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from edgepipe import wire
from edgepipe.cost.network import Graph, Network, Node, Scale, Shape, Value
from edgepipe.errors import UnknownFormat
from edgepipe.onnx_file import DTYPES, WEIGHT_TYPES
from edgepipe.wire import BYTES, VARINT, Range, Source

_DEEPEST, _MOST_DIMENSIONS, _MOST_NUMBERS = 32, 64, 64
_OWN_NAMES = ("LSTM", "GRU", "RNN")
"""Operators that TFLite has under the same name, with other inputs."""


def read(path: Path) -> Network:
    """The network of a file, with the shapes that it says; weights beside it are not needed."""
    if path.stat().st_size == 0:
        raise UnknownFormat(f"{path.name} is empty; an ONNX model was expected")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return read_bytes(data)


def read_bytes(data: Source) -> Network:
    for number, kind, start, end in wire.fields(data, (0, len(data))):
        if number == 7 and kind == BYTES:
            reader = _Reader(data)
            reader.graph((start, end), {}, 0)
            return Network(reader.graphs, reader.constants)
    raise UnknownFormat("no graph in it")


@dataclass
class _Parts:
    """A graph's fields, sorted by what they are."""

    name: str = "graph"
    nodes: list[Range] = field(default_factory=list)
    tensors: list[Range] = field(default_factory=list)
    inputs: list[Range] = field(default_factory=list)
    outputs: list[Range] = field(default_factory=list)
    between: list[Range] = field(default_factory=list)


class _Reader:
    """One walk. `graphs` has the main graph first, as it is entered first."""

    def __init__(self, data: Source) -> None:
        self.data = data
        self.graphs: list[Graph] = []
        self.constants: list[Value] = []
        self.numbers: dict[Value, Range] = {}

    def graph(self, span: Range, outer: dict[str, Value], depth: int) -> int:
        """Read a graph; gives its place. Names that it lacks are those of the graph around it."""
        if depth > _DEEPEST:
            raise UnknownFormat(f"graphs nested deeper than {_DEEPEST}")
        parts, place, made = self.parts(span), len(self.graphs), Graph("")
        self.graphs.append(made)
        known = {
            value.name: value
            for value in (_described(self.data, one)
                          for one in (*parts.between, *parts.outputs, *parts.inputs))
        }  # fmt: skip
        for value in (_described(self.data, one) for one in parts.between):
            if value.shape is not None:  # said twice: inference found less than a run
                known[value.name] = value
        scope = dict(outer)
        stored = {}
        for one in parts.tensors:
            value = self.tensor(one)
            stored[value.name] = value
        scope.update(stored)
        ends = [_described(self.data, one).name for one in parts.inputs]
        made.inputs = [known[name] for name in ends if name not in stored]
        scope.update({value.name: value for value in made.inputs})
        made.name = parts.name
        for one in parts.nodes:
            made.nodes.append(self.node(one, scope, known, depth))
        names = [_described(self.data, one).name for one in parts.outputs]
        made.outputs = [scope.get(name, known[name]) for name in names]
        self.scales(made)
        return place

    def parts(self, span: Range) -> _Parts:
        found = _Parts()
        places = {
            1: found.nodes, 5: found.tensors, 11: found.inputs, 12: found.outputs,
            13: found.between,
        }  # fmt: skip
        for number, kind, start, end in wire.fields(self.data, span):
            if kind == BYTES and number in places:
                places[number].append((start, end))
            elif kind == BYTES and number == 2:
                found.name = wire.text(self.data, start, end) or found.name
        return found

    def node(
        self, span: Range, scope: dict[str, Value], known: dict[str, Value], depth: int
    ) -> Node:
        inputs, outputs, op, domain, name = list[str](), list[str](), "", "", ""
        attributes: dict[str, Any] = {}
        graphs: list[Range] = []
        for number, kind, start, end in wire.fields(self.data, span):
            if kind != BYTES:
                continue
            if number == 5:
                self.attribute((start, end), attributes, graphs)
                continue
            if number not in (1, 2, 3, 4, 7):
                continue
            text = wire.text(self.data, start, end)
            if number == 1:
                inputs.append(text)
            elif number == 2:
                outputs.append(text)
            elif number == 3:
                name = text
            elif number == 4:
                op = text
            else:
                domain = text
        if not op:
            raise UnknownFormat("a node without a type")
        given = [
            None
            if not one
            else scope.setdefault(one, known.get(one) or Value(one, None, "unknown"))
            for one in inputs
        ]
        bodies = tuple(self.graph(one, scope, depth + 1) for one in graphs)
        made = [self.output(one, op, attributes, known) for one in outputs if one]
        scope.update({value.name: value for value in made})
        if domain in ("", "ai.onnx"):
            kind_name = f"onnx:{op}" if op in _OWN_NAMES else op
        else:
            kind_name = f"{domain}:{op}"
        return Node(kind_name, name or (made[0].name if made else ""), given, made, attributes,
                    bodies)  # fmt: skip

    def output(
        self, name: str, op: str, attributes: dict[str, Any], known: dict[str, Value]
    ) -> Value:
        value = known.get(name) or Value(name, None, "unknown")
        constant = attributes.get("value")
        if op == "Constant" and isinstance(constant, Value):
            constant.name = name
            return constant
        return value

    def attribute(self, span: Range, into: dict[str, Any], graphs: list[Range]) -> None:
        name = ""
        value: Any = None
        for number, kind, start, end in wire.fields(self.data, span):
            if number == 1 and kind == BYTES:
                name = wire.text(self.data, start, end)
            elif number == 3 and kind == VARINT:
                value = wire.signed(start)
            elif number == 4 and kind == BYTES and end - start < 1 << 12:
                value = wire.text(self.data, start, end)
            elif number == 8:
                more = islice(wire.integers(self.data, kind, start, end), _MOST_NUMBERS)
                value = [*(value if isinstance(value, list) else []), *more][:_MOST_NUMBERS]
            elif number == 5 and kind == BYTES:
                value = self.tensor((start, end))
            elif number in (6, 11) and kind == BYTES:
                graphs.append((start, end))
        into[name] = value

    def tensor(self, span: Range) -> Value:
        """A constant, by where its bytes are."""
        name, dtype, dims, raw = "", 0, list[int](), None
        for number, kind, start, end in wire.fields(self.data, span):
            if number == 1:
                dims.extend(islice(wire.integers(self.data, kind, start, end),
                                   _MOST_DIMENSIONS + 1))  # fmt: skip
            elif number == 2 and kind == VARINT:
                dtype = start
            elif number == 8 and kind == BYTES:
                name = wire.text(self.data, start, end)
            elif number in (4, 5, 9) and kind == BYTES:
                raw = (start, end)
        if len(dims) > _MOST_DIMENSIONS or any(size < 0 for size in dims):
            raise UnknownFormat(f"tensor {name!r} has the shape {dims[:8]}")
        words = DTYPES.get(dtype, "unknown")
        value = Value(name, tuple(dims), words, stored=span, weight=dtype in WEIGHT_TYPES)
        self.constants.append(value)
        if raw is not None:
            self.numbers[value] = raw
        return value

    def scales(self, graph: Graph) -> None:
        """Ends that are quantized at once, or made from integers at last, are integers in truth."""
        ends = set(graph.outputs)
        readers: dict[Value, list[Node]] = {}
        for node in graph.nodes:
            for value in node.reads():
                readers.setdefault(value, []).append(node)
        for value in graph.inputs:
            first = readers.get(value, [])
            if first and all(node.kind == "QuantizeLinear" for node in first):
                value.scale = self.scale(
                    first[0], first[0].outputs[0] if first[0].outputs else None
                )
        for node in graph.nodes:
            if node.kind != "DequantizeLinear" or not node.outputs or not node.inputs:
                continue
            if node.outputs[0] in ends:
                node.outputs[0].scale = self.scale(node, node.inputs[0])

    def scale(self, node: Node, stored: Value | None) -> Scale | None:
        """A scale and a zero point of one number each; more lie along an axis and are left out."""
        if len(node.inputs) < 2 or stored is None:
            return None
        scale = self.number(node.inputs[1])
        point = node.inputs[2] if len(node.inputs) > 2 else None
        zero = 0 if point is None else self.number(point)
        if scale is None or zero is None:
            return None
        dtype = point.dtype if point is not None else stored.dtype
        return Scale((float(scale),), (int(zero),), dtype)

    def number(self, value: Value | None) -> float | None:
        """The only number of a constant, where it is stored as plain bytes."""
        if value is None or value not in self.numbers or math.prod(value.shape or ()) != 1:
            return None
        start, end = self.numbers[value]
        code = {"float32": "<f", "int8": "<b", "uint8": "<B", "int16": "<h", "uint16": "<H",
                "int32": "<i", "float16": "<e"}.get(value.dtype)  # fmt: skip
        if code is None or struct.calcsize(code) != end - start:
            return None
        found: float = struct.unpack(code, self.data[start:end])[0]
        return found if math.isfinite(found) else None


def _described(data: Source, span: Range) -> Value:
    """A ValueInfoProto; a shape with an open dimension is none."""
    name, dtype, shape = "", "unknown", None
    for number, kind, start, end in wire.fields(data, span):
        if number == 1 and kind == BYTES:
            name = wire.text(data, start, end)
        elif number == 2 and kind == BYTES:
            for inner, inner_kind, first, last in wire.fields(data, (start, end)):
                if inner == 1 and inner_kind == BYTES:
                    dtype, shape = _tensor_type(data, (first, last))
    return Value(name, shape, dtype)


def _tensor_type(data: Source, span: Range) -> tuple[str, Shape | None]:
    dtype, shape = "unknown", None
    for number, kind, start, end in wire.fields(data, span):
        if number == 1 and kind == VARINT:
            dtype = DTYPES.get(start, "unknown")
        elif number == 2 and kind == BYTES:
            sizes = list(islice(_sizes(data, (start, end)), _MOST_DIMENSIONS + 1))
            if len(sizes) <= _MOST_DIMENSIONS and None not in sizes:
                shape = tuple(size for size in sizes if size is not None)
    return dtype, shape


def _sizes(data: Source, span: Range) -> Iterator[int | None]:
    for number, kind, start, end in wire.fields(data, span):
        if number == 1 and kind == BYTES:
            found = None
            for inner, inner_kind, value, _ in wire.fields(data, (start, end)):
                if inner == 1 and inner_kind == VARINT and wire.signed(value) >= 0:
                    found = wire.signed(value)
            yield found
