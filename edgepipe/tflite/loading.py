"""Reads a TFLite file into a graph that can be changed; what it doesn't know it refuses."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.errors import UnknownFormat, UnsupportedModel
from edgepipe.tflite.encode import LARGEST
from edgepipe.tflite.flatbuffer import Reader, Source
from edgepipe.tflite.graph import Graph, Model, Op, Quantization, Signature, Tensor
from edgepipe.tflite.names import OPERATORS
from edgepipe.tflite.reader import IDENTIFIER
from edgepipe.tflite.record import Record, decode

_KEPT = (
    "custom_options_format", "mutating_variable_inputs", "debug_metadata_index",
)  # fmt: skip
"""Fields of an operator that are passed through."""


def load(path: Path) -> Model:
    """Read a file; its constants stay on disk until they are looked at."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        # Not closed: the constants look into it, and it ends with the last of them.
        data: Source = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    try:
        return parse(data)
    except UnknownFormat as error:
        raise UnknownFormat(
            f"{path.name} is no TFLite model, or damaged: {error.message}",
            hint="check that it was copied whole.",
        ) from error


def parse(data: Source) -> Model:
    """Read a file's bytes."""
    if len(data) > LARGEST:
        raise UnsupportedModel(
            f"the file has {len(data) / 1e9:.1f} GB, and a TFLite file that can be changed has at "
            "most 2 GB",
            hint="quantize its weights, or split it.",
        )
    if len(data) < 16 or data[4:8] != IDENTIFIER:
        raise UnknownFormat(f"{IDENTIFIER!r} expected at byte 4, received {data[4:8]!r}")
    reader = Reader(data)
    try:
        return _Loader(reader, decode(reader, reader.follow(0), "Model")).model()
    except (UnicodeError, ValueError, OverflowError) as error:
        raise UnknownFormat(f"damaged: {error}") from error


class _Loader:
    """The file's numbers turned into references."""

    def __init__(self, reader: Reader, root: Record) -> None:
        if root.external_buffers or root.external_buffer_groups:
            raise UnsupportedModel(
                "the model keeps its weights in other files",
                hint="write it as a single file first.",
            )
        self.reader, self.root = reader, root
        self.buffers = [self.buffer(one) for one in root.buffers or ()]
        self.codes = [self.code(one) for one in root.operator_codes or ()]

    def buffer(self, record: Record) -> NDArray[np.uint8] | None:
        # An offset of 1 is a placeholder of writers that were not done.
        if record.offset > 1:
            return self.outside(record.offset, record.size)
        data: NDArray[np.uint8] | None = record.data
        return data if data is not None and len(data) else None

    def outside(self, start: int, size: int) -> NDArray[np.uint8] | None:
        if start + size > self.reader.size:
            raise UnknownFormat(f"truncated: a buffer ends at byte {start + size}")
        return np.frombuffer(self.reader.source, np.uint8, size, start) if size else None

    def code(self, record: Record) -> tuple[str, str, int]:
        number = max(record.deprecated_builtin_code, record.builtin_code)
        if not 0 <= number < len(OPERATORS):
            raise UnsupportedModel(
                f"operator code {number}; the newest known is {len(OPERATORS) - 1}",
                hint="it was written by a newer tool, or the file is damaged.",
            )
        return OPERATORS[number], record.custom_code or "", record.version

    def model(self) -> Model:
        root = self.root
        graphs = [self.graph(one) for one in root.subgraphs or ()]
        if not graphs:
            raise UnknownFormat("it holds no graph")
        metadata = [(one.name or "", one.buffer) for one in root.metadata or ()]
        named = {number for _, number in metadata}
        loose = [self.content(one) for one in root.metadata_buffer or () if one not in named]
        return Model(
            graphs=graphs,
            signatures=[self.signature(one, graphs) for one in root.signature_defs or ()],
            metadata=[(name, self.content(number)) for name, number in metadata],
            description=root.description or "",
            version=root.version,
            loose=None if root.metadata_buffer is None else loose,
        )

    def content(self, number: int) -> bytes:
        found = _at(self.buffers, number, "buffer")
        return b"" if found is None else found.tobytes()

    def graph(self, record: Record) -> Graph:
        tensors = [self.tensor(one) for one in record.tensors or ()]
        for tensor, one in zip(tensors, record.tensors or (), strict=True):
            tensor.quantization = _quantization(one.quantization, tensors)
        return Graph(
            name=record.name or "",
            tensors=tensors,
            ops=[self.op(one, tensors) for one in record.operators or ()],
            inputs=[_at(tensors, number, "tensor") for number in record.inputs or ()],
            outputs=[_at(tensors, number, "tensor") for number in record.outputs or ()],
            debug_metadata=record.debug_metadata_index,
        )

    def tensor(self, record: Record) -> Tensor:
        if record.external_buffer:
            raise UnsupportedModel(f"tensor {record.name!r} keeps its values in another file")
        shape = record.shape or ()
        if any(length < 0 for length in shape) or len(shape) > 64:
            raise UnknownFormat(f"damaged: a tensor of the shape {shape[:8]}")
        return Tensor(
            name=record.name or "",
            shape=shape,
            dtype=record.type,
            signature=record.shape_signature or (),
            # Buffer 0 is the empty one by definition, also where the file has none at all.
            data=_at(self.buffers, record.buffer, "buffer") if record.buffer else None,
            variable=record.is_variable,
            has_rank=record.has_rank,
            sparsity=record.sparsity,
            variants=record.variant_tensors,
        )

    def op(self, record: Record, tensors: list[Tensor]) -> Op:
        name, custom, version = _at(self.codes, record.opcode_index, "operator code")
        if record.builtin_options is not None and record.builtin_options_2 is not None:
            raise UnsupportedModel(f"a {name} with two tables of options")
        custom_options = record.custom_options
        if record.large_custom_options_offset > 1:
            custom_options = self.outside(
                record.large_custom_options_offset, record.large_custom_options_size
            )
        return Op(
            name=name,
            inputs=_some(tensors, record.inputs or ()),
            outputs=[_at(tensors, number, "tensor") for number in record.outputs or ()],
            options=record.builtin_options or record.builtin_options_2,
            custom=custom,
            custom_options=None if custom_options is None else custom_options.tobytes(),
            version=version,
            rest={key: record.values[key] for key in _KEPT},
            intermediates=(
                None if record.intermediates is None else _some(tensors, record.intermediates)
            ),
        )

    def signature(self, record: Record, graphs: list[Graph]) -> Signature:
        graph = _at(graphs, record.subgraph_index, "graph")

        def named(ends: list[Record] | None) -> list[tuple[str, Tensor]]:
            return [
                (one.name or "", _at(graph.tensors, one.tensor_index, "tensor"))
                for one in ends or ()
            ]

        return Signature(
            record.signature_key or "",
            graph,
            named(record.inputs),
            named(record.outputs),
            record.deprecated_tag,
        )


def _at(items: list[Any], number: int, what: str) -> Any:
    if not 0 <= number < len(items):
        raise UnknownFormat(f"damaged: {what} {number} of {len(items)}")
    return items[number]


def _some(tensors: list[Tensor], numbers: tuple[int, ...]) -> list[Tensor | None]:
    return [None if number == -1 else _at(tensors, number, "tensor") for number in numbers]


_REFERRING = ("BlockwiseQuantization", "MultiAxisQuantization")
"""Details of a quantization that name tensors by number, in `scales` and `zero_points`."""


def _quantization(record: Record | None, tensors: list[Tensor]) -> Quantization | None:
    if record is None:
        return None
    details = record.details
    refers: list[tuple[str, Tensor]] = []
    if details is not None and details.kind in _REFERRING:
        for key in ("scales", "zero_points"):
            if details.values[key] >= 0:
                refers.append((key, _at(tensors, details.values[key], "tensor")))
    found = Quantization(
        scales=record.scale or (),
        zero_points=record.zero_point or (),
        axis=record.quantized_dimension,
        minimum=record.min or None,
        maximum=record.max or None,
        details=details,
        refers=tuple(refers),
    )
    return None if found == Quantization() else found
