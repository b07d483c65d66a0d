"""Reads a TFLite file into a `TfliteModel`: every offset checked, weights left on disk."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from edgepipe.errors import UnknownFormat
from edgepipe.tflite.flatbuffer import Reader, Source, Table
from edgepipe.tflite.model import (
    Operator,
    Quantization,
    SignatureDef,
    Subgraph,
    Tensor,
    TfliteModel,
)
from edgepipe.tflite.names import ACTIVATIONS, DTYPES, OPERATORS

IDENTIFIER = b"TFL3"

_ACTIVATION_FIELD = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5,
    "L2_POOL_2D": 5, "FULLY_CONNECTED": 0, "CONCATENATION": 1, "ADD": 0, "SUB": 0, "MUL": 0,
    "DIV": 0, "L2_NORMALIZATION": 0, "SVDF": 1, "RNN": 0, "LSTM": 0, "TRANSPOSE_CONV": 3,
    "CONV_3D": 4, "UNIDIRECTIONAL_SEQUENCE_LSTM": 0, "UNIDIRECTIONAL_SEQUENCE_RNN": 1,
}  # fmt: skip
"""Where each operator's options keep the fused activation (schema.fbs)."""


@dataclass(frozen=True)
class _Opcode:
    name: str
    custom: str
    version: int


def read(path: Path) -> TfliteModel:
    """Read a file; an error says what it lacks to be TFLite."""
    try:
        if not path.is_file() or path.stat().st_size == 0:
            raise UnknownFormat("empty or not a file")
        with path.open("rb") as file:
            # Not closed: the model reads constants from it, and it ends with the model.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return read_bytes(data)
    except UnknownFormat as error:
        raise UnknownFormat(
            f"{path.name} is no TFLite model, or damaged: {error.message}",
            hint="check that it was copied whole.",
        ) from error


def read_bytes(data: Source) -> TfliteModel:
    if len(data) < 16 or data[4:8] != IDENTIFIER:
        raise UnknownFormat(f"{IDENTIFIER!r} expected at byte 4, received {data[4:8]!r}")
    model = Reader(data).root()
    opcodes = [_opcode(table) for table in model.tables(1)]
    buffers = [_extent(table) for table in model.tables(4)]
    subgraphs = tuple(_subgraph(table, opcodes, buffers) for table in model.tables(2))
    if not subgraphs:
        raise UnknownFormat("it holds no graph")
    return TfliteModel(
        version=model.number(0, "I"),
        description=model.text(3),
        subgraphs=subgraphs,
        signatures=tuple(_signature(table, subgraphs) for table in model.tables(7)),
        metadata=tuple(table.text(0) for table in model.tables(6)),
        source=data,
    )


def _opcode(table: Table) -> _Opcode:
    # Codes above 127 are in the new field, and old writers know only the old one.
    code = max(table.number(0, "b"), table.number(3, "i"))
    if not 0 <= code < len(OPERATORS):
        raise UnknownFormat(f"operator code {code}; the newest known is {len(OPERATORS) - 1}")
    return _Opcode(OPERATORS[code], table.text(1), table.number(2, "i", 1))


def _extent(table: Table) -> tuple[int, int]:
    """Start and size of a buffer's bytes; models over 2 GB keep them behind the FlatBuffer."""
    offset, size = table.number(1, "Q"), table.number(2, "Q")
    if offset > 1:
        if offset + size > table.reader.size:
            raise UnknownFormat(f"truncated: a buffer ends at byte {offset + size}")
        return offset, size
    return table.extent(0)


def _subgraph(table: Table, opcodes: list[_Opcode], buffers: list[tuple[int, int]]) -> Subgraph:
    tensors = tuple(_tensor(one, buffers) for one in table.tables(0))
    count = len(tensors)
    return Subgraph(
        name=table.text(4),
        tensors=tensors,
        operators=tuple(_operator(one, opcodes, count) for one in table.tables(3)),
        inputs=_indices(table, 1, count, lowest=0),
        outputs=_indices(table, 2, count, lowest=0),
    )


def _indices(table: Table, field: int, count: int, lowest: int) -> tuple[int, ...]:
    found = table.integers(field)
    for index in found:
        if not lowest <= index < count:
            raise UnknownFormat(f"damaged: tensor {index} of {count}")
    return found


def _tensor(table: Table, buffers: list[tuple[int, int]]) -> Tensor:
    kind, buffer = table.number(1, "b"), table.number(2, "I")
    if not 0 <= kind < len(DTYPES):
        raise UnknownFormat(f"element type {kind}; the newest known is {len(DTYPES) - 1}")
    if buffer >= len(buffers) and buffer:
        raise UnknownFormat(f"damaged: buffer {buffer} of {len(buffers)}")
    start, size = buffers[buffer] if buffer else (0, 0)
    shape = table.integers(0)
    if any(length < 0 for length in shape) or len(shape) > 64:
        raise UnknownFormat(f"damaged: a tensor of the shape {shape[:8]}")
    return Tensor(
        name=table.text(3),
        shape=shape,
        signature=table.integers(7),
        dtype=DTYPES[kind],
        quantization=_quantization(table.table(4)),
        buffer=buffer,
        start=start,
        size=size,
        variable=bool(table.number(5, "b")),
    )


def _quantization(table: Table | None) -> Quantization | None:
    if table is None:
        return None
    scales = tuple(table.array(2, "<f4").tolist())
    if not scales:
        return None
    return Quantization(scales, table.integers(3, "<i8"), table.number(6, "i"))


def _operator(table: Table, opcodes: list[_Opcode], count: int) -> Operator:
    index = table.number(0, "I")
    if index >= len(opcodes):
        raise UnknownFormat(f"damaged: operator code {index} of {len(opcodes)}")
    code = opcodes[index]
    return Operator(
        name=code.name,
        version=code.version,
        custom=code.custom,
        inputs=_indices(table, 1, count, lowest=-1),
        outputs=_indices(table, 2, count, lowest=-1),
        activation=_activation(table, code.name),
    )


def _activation(table: Table, name: str) -> str:
    field = _ACTIVATION_FIELD.get(name)
    if field is None:
        return ""
    options = table.table(4)
    number = 0 if options is None else options.number(field, "b")
    return ACTIVATIONS[number] if 0 <= number < len(ACTIVATIONS) else str(number)


def _signature(table: Table, subgraphs: tuple[Subgraph, ...]) -> SignatureDef:
    subgraph = table.number(4, "I")
    if subgraph >= len(subgraphs):
        raise UnknownFormat(f"damaged: signature of graph {subgraph} of {len(subgraphs)}")
    count = len(subgraphs[subgraph].tensors)
    return SignatureDef(
        key=table.text(2),
        subgraph=subgraph,
        inputs=_named(table, 0, count),
        outputs=_named(table, 1, count),
    )


def _named(table: Table, field: int, count: int) -> tuple[tuple[str, int], ...]:
    pairs = tuple((one.text(0), one.number(1, "I")) for one in table.tables(field))
    for name, index in pairs:
        if index >= count:
            raise UnknownFormat(f"damaged: {name!r} names tensor {index} of {count}")
    return pairs
