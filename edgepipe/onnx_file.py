"""What an ONNX file holds, read off its wire format without loading it: no protobuf, no weights."""

from __future__ import annotations

import hashlib
import math
import mmap
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from edgepipe import wire
from edgepipe.artifact import Port, Signature, digest_file
from edgepipe.errors import ModelNotFound, UnknownFormat
from edgepipe.wire import BYTES, Range, Source

DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "string", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8e4m3fn", 18: "float8e4m3fnuz",
    19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1",
}  # fmt: skip
"""TensorProto.DataType (onnx.proto)."""

WEIGHT_TYPES = {1, 2, 3, 4, 5, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23}
"""Types that count as parameters: floats and quantized integers, not shapes and indices."""

_DEEPEST = 32
"""Levels of If and Loop bodies; real models have two or three."""

_MOST_DIMENSIONS = 64


@dataclass(frozen=True)
class OnnxFile:
    """`ops` counts nodes by type, those in bodies too; other domains than ONNX's own in front."""

    ir_version: int
    opsets: dict[str, int]
    producer: str
    signature: Signature
    ops: dict[str, int]
    parameters: int
    external: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        return {
            "ir_version": self.ir_version,
            "opsets": self.opsets,
            "producer": self.producer,
            "external_data": list(self.external),
        }


@dataclass
class _Tensor:
    name: str = ""
    dtype: int = 0
    dims: list[int] = field(default_factory=list)
    location: str = ""

    def parameters(self) -> int:
        return math.prod(self.dims) if self.dtype in WEIGHT_TYPES else 0


@dataclass
class _Node:
    op: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    axis: int = 0
    graphs: list[Range] = field(default_factory=list)
    tensors: list[Range] = field(default_factory=list)


@dataclass
class _Found:
    """What the walk collects over the graph and every body in it."""

    ops: Counter[str] = field(default_factory=Counter)
    parameters: int = 0
    external: dict[str, None] = field(default_factory=dict)

    def add(self, tensor: _Tensor) -> None:
        self.parameters += tensor.parameters()
        if tensor.location:
            self.external[tensor.location] = None


def read(path: Path) -> OnnxFile:
    """Walk the file; an error says what it lacks to be ONNX."""
    try:
        if not path.is_file() or path.stat().st_size == 0:
            raise UnknownFormat(f"{path.name} is empty or not a file; an ONNX model was expected")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read_bytes(data)
    except UnknownFormat as error:
        raise UnknownFormat(
            f"{path.name} is no ONNX model, or damaged: {error.message}",
            hint="check that it was copied whole; `onnx.checker.check_model` says more.",
        ) from error


def read_bytes(data: Source) -> OnnxFile:
    ir_version, graph, producer = 0, None, ""
    opsets: dict[str, int] = {}
    functions: list[Range] = []
    for number, kind, start, end in wire.fields(data, (0, len(data))):
        if number == 1 and kind == wire.VARINT:
            ir_version = start
        elif number == 2 and kind == BYTES:
            producer = wire.text(data, start, end)
        elif number == 7 and kind == BYTES:
            graph = (start, end)
        elif number == 8 and kind == BYTES:
            domain, version = _opset(data, (start, end))
            opsets[domain] = version
        elif number == 25 and kind == BYTES:
            functions.append((start, end))
    if graph is None or not opsets or not ir_version:
        raise UnknownFormat("no graph, opset or IR version in it")
    found = _Found()
    signature = _read_graph(data, graph, found, depth=0)
    if not signature.outputs:
        raise UnknownFormat("a graph without outputs")
    for span in functions:
        _read_function(data, span, found)
    return OnnxFile(
        ir_version=ir_version,
        opsets=opsets,
        producer=producer,
        signature=signature,
        ops=dict(found.ops.most_common()),
        parameters=found.parameters,
        external=tuple(found.external),
    )


def external_files(path: Path) -> list[Path]:
    """The files beside the model that hold its weights; all must be there and below its folder."""
    files = []
    for location in read(path).external:
        relative = PurePosixPath(location)
        if relative.is_absolute() or ".." in relative.parts:
            raise UnknownFormat(
                f"{path.name} keeps weights outside its own folder: {location!r}",
                hint="save it again with `onnx.save_model(..., save_as_external_data=True)`.",
            )
        file = path.parent / relative
        if not file.is_file():
            raise ModelNotFound(
                f"{path.name} keeps weights in {location!r}, which is not beside it",
                hint=f"copy {location!r} into {path.parent}.",
            )
        files.append(file)
    return files


def digest(path: Path) -> str:
    """SHA-256 of the file, and of its weights' files where they are kept apart."""
    files = external_files(path)
    if not files:
        return digest_file(path)
    hasher = hashlib.sha256(digest_file(path).encode())
    for file in files:
        hasher.update(f"{file.relative_to(path.parent).as_posix()}\0{digest_file(file)}\n".encode())
    return hasher.hexdigest()


def _opset(data: Source, span: Range) -> tuple[str, int]:
    domain, version = "", 0
    for number, kind, start, end in wire.fields(data, span):
        if number == 1 and kind == BYTES:
            domain = wire.text(data, start, end)
        elif number == 2 and kind == wire.VARINT:
            version = start
    return ("" if domain == "ai.onnx" else domain), version


def _read_graph(data: Source, span: Range, found: _Found, depth: int) -> Signature:
    if depth > _DEEPEST:
        raise UnknownFormat(f"graphs nested deeper than {_DEEPEST}")
    inputs: list[Port] = []
    outputs: list[Port] = []
    nodes: list[_Node] = []
    initializers: dict[str, _Tensor] = {}
    for number, kind, start, end in wire.fields(data, span):
        if kind != BYTES:
            continue
        if number == 1:
            nodes.append(_read_node(data, (start, end)))
        elif number == 5:
            tensor = _read_tensor(data, (start, end))
            initializers[tensor.name] = tensor
            found.add(tensor)
        elif number == 15:
            found.add(_read_sparse(data, (start, end)))
        elif number in (11, 12):
            (inputs if number == 11 else outputs).append(_read_port(data, (start, end)))
    for node in nodes:
        _count(data, node, found, depth)
    highs = _table_sizes(nodes, initializers)
    real = [port for port in inputs if port.name not in initializers]
    return Signature(tuple(_bounded(port, highs) for port in real), tuple(outputs))


def _count(data: Source, node: _Node, found: _Found, depth: int) -> None:
    if not node.op:
        raise UnknownFormat("a node without a type")
    found.ops[f"{node.domain}:{node.op}" if node.domain else node.op] += 1
    for span in node.tensors:
        found.add(_read_tensor(data, span))
    for span in node.graphs:
        _read_graph(data, span, found, depth + 1)


def _read_function(data: Source, span: Range, found: _Found) -> None:
    """FunctionProto: its nodes (field 7) count as the model's own."""
    for number, kind, start, end in wire.fields(data, span):
        if number == 7 and kind == BYTES:
            _count(data, _read_node(data, (start, end)), found, depth=1)


def _read_node(data: Source, span: Range) -> _Node:
    node = _Node()
    for number, kind, start, end in wire.fields(data, span):
        if kind != BYTES:
            continue
        if number == 1:
            node.inputs.append(wire.text(data, start, end))
        elif number == 2:
            node.outputs.append(wire.text(data, start, end))
        elif number == 4:
            node.op = wire.text(data, start, end)
        elif number == 7:
            domain = wire.text(data, start, end)
            node.domain = "" if domain == "ai.onnx" else domain
        elif number == 5:
            _read_attribute(data, (start, end), node)
    return node


def _read_attribute(data: Source, span: Range, node: _Node) -> None:
    name, integer = "", 0
    for number, kind, start, end in wire.fields(data, span):
        if number == 1 and kind == BYTES:
            name = wire.text(data, start, end)
        elif number == 3 and kind == wire.VARINT:
            integer = wire.signed(start)
        elif number in (5, 10) and kind == BYTES:
            node.tensors.append((start, end))
        elif number in (6, 11) and kind == BYTES:
            node.graphs.append((start, end))
    if name == "axis":
        node.axis = integer


def _read_tensor(data: Source, span: Range) -> _Tensor:
    tensor = _Tensor()
    for number, kind, start, end in wire.fields(data, span):
        if number == 1:
            sizes = wire.integers(data, kind, start, end)
            tensor.dims.extend(islice(sizes, _MOST_DIMENSIONS + 1))
            if len(tensor.dims) > _MOST_DIMENSIONS:
                raise UnknownFormat(f"tensor {tensor.name!r} of {len(tensor.dims)} dimensions")
        elif number == 2 and kind == wire.VARINT:
            tensor.dtype = start
        elif number == 8 and kind == BYTES:
            tensor.name = wire.text(data, start, end)
        elif number == 13 and kind == BYTES:
            key, value = _entry(data, (start, end))
            if key == "location":
                tensor.location = value
    if any(size < 0 for size in tensor.dims):
        raise UnknownFormat(f"tensor {tensor.name!r} has the shape {tensor.dims}")
    return tensor


def _read_sparse(data: Source, span: Range) -> _Tensor:
    """SparseTensorProto: the values (field 1) are what is stored."""
    for number, kind, start, end in wire.fields(data, span):
        if number == 1 and kind == BYTES:
            return _read_tensor(data, (start, end))
    return _Tensor()


def _entry(data: Source, span: Range) -> tuple[str, str]:
    key = value = ""
    for number, kind, start, end in wire.fields(data, span):
        if number == 1 and kind == BYTES:
            key = wire.text(data, start, end)
        elif number == 2 and kind == BYTES:
            value = wire.text(data, start, end)
    return key, value


def _read_port(data: Source, span: Range) -> Port:
    name, dtype, shape = "", "unknown", None
    for number, kind, start, end in wire.fields(data, span):
        if number == 1 and kind == BYTES:
            name = wire.text(data, start, end)
        elif number == 2 and kind == BYTES:
            for type_number, type_kind, inner, last in wire.fields(data, (start, end)):
                if type_number == 1 and type_kind == BYTES:
                    dtype, shape = _tensor_type(data, (inner, last))
                elif type_kind == BYTES and type_number in (4, 5, 8, 9):
                    dtype = {4: "sequence", 5: "map", 8: "sparse", 9: "optional"}[type_number]
    return Port(name, shape, dtype)


def _tensor_type(data: Source, span: Range) -> tuple[str, tuple[int | None, ...] | None]:
    dtype, shape = "unknown", None
    for number, kind, start, end in wire.fields(data, span):
        if number == 1 and kind == wire.VARINT:
            dtype = DTYPES.get(start, "unknown")
        elif number == 2 and kind == BYTES:
            dims = wire.fields(data, (start, end))
            shape = tuple(_dimension(data, (a, b)) for n, k, a, b in dims if (n, k) == (1, BYTES))
    return dtype, shape


def _dimension(data: Source, span: Range) -> int | None:
    """None for a symbol, and for the 0 and -1 that exporters write for an unknown size."""
    for number, kind, start, _ in wire.fields(data, span):
        if number == 1 and kind == wire.VARINT:
            size = wire.signed(start)
            return size if size > 0 else None
    return None


def _table_sizes(nodes: list[_Node], initializers: dict[str, _Tensor]) -> dict[str, int]:
    """Tensor name -> rows of the table that it indexes, through Cast and the like."""
    source: dict[str, str] = {}
    highs: dict[str, int] = {}
    for node in nodes:
        if node.op in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten"):
            if node.inputs and node.outputs:
                source[node.outputs[0]] = source.get(node.inputs[0], node.inputs[0])
        elif node.op == "Gather" and len(node.inputs) == 2:
            table = initializers.get(node.inputs[0])
            if table is None or node.axis != 0 or not table.dims:
                continue
            index = source.get(node.inputs[1], node.inputs[1])
            highs[index] = min(table.dims[0], highs.get(index, table.dims[0]))
    return highs


def _bounded(port: Port, highs: dict[str, int]) -> Port:
    high = highs.get(port.name)
    if high is None or not port.dtype.startswith(("int", "uint")):
        return port
    return Port(port.name, port.shape, port.dtype, high=high)
