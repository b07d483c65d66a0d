"""TFLite files: the FlatBuffer's identifier, and whether all buffers lie within the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgepipe.artifact import Format
from edgepipe.errors import UnknownFormat
from edgepipe.identify_sample import Damaged, Sample, damaged

if TYPE_CHECKING:
    from edgepipe.tflite.model import TfliteModel

COMPILED = {"CUSTOM:edgetpu-custom-op": Format.EDGETPU, "CUSTOM:ethos-u": Format.ETHOSU}
"""Operators that a chip's compiler puts in place of those that it mapped."""

# schema.fbs: Model { version, operator_codes, subgraphs, description, buffers, ... }
OPERATOR_CODES, SUBGRAPHS, BUFFERS = 1, 2, 4
# Buffer { data, offset, size }; the latter two for data behind the FlatBuffer (over 2 GB)
DATA, FAR_OFFSET, FAR_SIZE = 0, 1, 2
MOST = 20_000


def recognise(sample: Sample) -> Format | None:
    if sample.head[4:8] != b"TFL3":
        return None
    try:
        _check(sample)
    except Damaged as reason:
        raise damaged(sample.path, "a TFLite model", str(reason)) from reason
    return _kind(sample.path)


def _kind(path: Path) -> Format:
    """Compiled for a chip, or quantized, or float."""
    from edgepipe.tflite import reader

    try:
        model = reader.read(path)
    except UnknownFormat:
        return Format.TFLITE  # Of operators newer than edgepipe, say; whoever reads it tells.
    for operator, format in COMPILED.items():
        if operator in model.ops():
            return format
    return Format.TFLITE_QUANTIZED if _is_quantized(model) else Format.TFLITE


def _is_quantized(model: TfliteModel) -> bool:
    """Whether anything in it stands for a real number in fewer bits than float32 has."""
    halves = ("float16", "bfloat16")
    return bool(model.quantized()) or any(
        tensor.constant and tensor.dtype in halves
        for graph in model.subgraphs
        for tensor in graph.tensors
    )


def _check(sample: Sample) -> None:
    model = sample.number(0, 4)
    subgraphs = _field(sample, model, SUBGRAPHS)
    buffers = _field(sample, model, BUFFERS)
    if subgraphs is None or not _vector(sample, subgraphs, 4)[1]:
        raise Damaged("it has no subgraph")
    if buffers is None:
        raise Damaged("it has no buffers")
    for table in _tables(sample, buffers):
        _check_buffer(sample, table)
    # Converters write these last: where they are whole, so is the file.
    for table in _tables(sample, _field(sample, model, OPERATOR_CODES)):
        _field(sample, table, 0)


def _tables(sample: Sample, field: int | None) -> Iterator[int]:
    """The places of the tables in a vector of them."""
    if field is None:
        return
    start, count = _vector(sample, field, 4)
    for at in range(start, start + 4 * min(count, MOST), 4):
        yield at + sample.number(at, 4)


def _check_buffer(sample: Sample, table: int) -> None:
    data = _field(sample, table, DATA)
    if data is not None:
        _vector(sample, data, 1)
    offset, size = _field(sample, table, FAR_OFFSET), _field(sample, table, FAR_SIZE)
    if offset is not None and size is not None:
        _within(sample, sample.number(offset, 8), sample.number(size, 8))


def _field(sample: Sample, table: int, number: int) -> int | None:
    """The place of a table's field, None where it is left out."""
    back = int.from_bytes(sample.exactly(table, 4), "little", signed=True)
    layout = table - back
    if not 0 <= layout < sample.size:
        raise Damaged(f"the table at {table:,} has its layout outside of the file")
    _within(sample, table, sample.number(layout + 2, 2))
    at = 4 + 2 * number
    if at + 2 > sample.number(layout, 2):
        return None
    distance = sample.number(layout + at, 2)
    return table + distance if distance else None


def _vector(sample: Sample, at: int, width: int) -> tuple[int, int]:
    """Where the vector's items begin, and how many there are."""
    start = at + sample.number(at, 4)
    count = sample.number(start, 4)
    _within(sample, start + 4, count * width)
    return start + 4, count


def _within(sample: Sample, start: int, length: int) -> None:
    if start + length > sample.size:
        raise Damaged(f"it needs {start + length:,} bytes and has {sample.size:,}")
