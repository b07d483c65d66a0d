"""Writes a graph as a TFLite file: the same graph always gives the same bytes.

Everything goes inside the FlatBuffer, what was kept behind it too (litert-torch and
ai-edge-quantizer do that); identical buffers are written once, aligned to 16 bytes; each
operator gets the lowest version that it needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepipe.tflite.encode import encode
from edgepipe.tflite.graph import Graph, Model, Op, Quantization, Signature, Tensor
from edgepipe.tflite.names import OPERATORS
from edgepipe.tflite.op_versions import lowest_version
from edgepipe.tflite.reader import IDENTIFIER
from edgepipe.tflite.record import Record
from edgepipe.tflite.schema import UNIONS

_OLD_LIMIT = 127
"""Operator codes above it are in a second field; readers of 2020 know only the first."""

_Place = Callable[[Tensor], int]


def save(model: Model, path: Path) -> None:
    """Write a file, aside and then renamed: what was there before may still be read from."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in pieces(model):
                file.write(piece)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def to_bytes(model: Model) -> bytes:
    return b"".join(pieces(model))


def pieces(model: Model) -> Iterator[bytes | memoryview]:
    return encode(_Saver().root(model), IDENTIFIER)


class _Saver:
    """References turned into numbers."""

    def __init__(self) -> None:
        self.buffers = [Record("Buffer")]
        self.by_size: dict[int, list[_Shared]] = defaultdict(list)
        self.codes: dict[tuple[str, str, int], int] = {}

    def root(self, model: Model) -> Record:
        numbers = {id(graph): number for number, graph in enumerate(model.graphs)}
        tensors = [_tensors(model, graph) for graph in model.graphs]
        places = [{tensor: i for i, tensor in enumerate(found)} for found in tensors]
        subgraphs = [self.graph(*one) for one in zip(model.graphs, tensors, places, strict=True)]
        signatures = [
            self.signature(one, numbers[id(one.graph)], places[numbers[id(one.graph)]])
            for one in model.signatures
        ]
        metadata = [
            Record("Metadata", name=name, buffer=self.share(np.frombuffer(data, np.uint8)))
            for name, data in model.metadata
        ]
        old = None
        if model.loose is not None:
            old = [one.buffer for one in metadata]
            old += [self.share(np.frombuffer(data, np.uint8)) for data in model.loose]
        return Record(
            "Model",
            version=model.version,
            operator_codes=[_code(*key) for key in self.codes],
            subgraphs=subgraphs,
            description=model.description or None,
            buffers=self.buffers,
            metadata_buffer=old,
            metadata=metadata or None,
            signature_defs=signatures or None,
        )

    def share(self, data: NDArray[np.uint8] | None) -> int:
        """The number of the buffer with these bytes; only those of one size are compared."""
        if data is None or not len(data):
            return 0
        same_size = self.by_size[len(data)]
        place = data.__array_interface__["data"][0]
        for known in same_size:
            if known.place == place:
                return known.number
        digest = _digest(data) if same_size else b""
        for known in same_size:
            known.digest = known.digest or _digest(known.data)
            if known.digest == digest:
                return known.number
        self.buffers.append(Record("Buffer", data=data))
        same_size.append(_Shared(len(self.buffers) - 1, place, data, digest))
        return same_size[-1].number

    def graph(self, graph: Graph, tensors: list[Tensor], places: dict[Tensor, int]) -> Record:
        place = places.__getitem__
        return Record(
            "SubGraph",
            tensors=[self.tensor(tensor, place) for tensor in tensors],
            inputs=[place(tensor) for tensor in graph.inputs],
            outputs=[place(tensor) for tensor in graph.outputs],
            operators=[self.op(op, place) for op in graph.ops],
            name=graph.name or None,
            debug_metadata_index=graph.debug_metadata,
        )

    def tensor(self, tensor: Tensor, place: _Place) -> Record:
        return Record(
            "Tensor",
            shape=tensor.shape,
            type=tensor.dtype,
            buffer=self.share(tensor.data),
            name=tensor.name,
            quantization=_quantization(tensor.quantization, place),
            is_variable=tensor.variable,
            sparsity=tensor.sparsity,
            shape_signature=tensor.signature or None,
            has_rank=tensor.has_rank,
            variant_tensors=tensor.variants,
        )

    def op(self, op: Op, place: _Place) -> Record:
        second = op.options is not None and op.options.kind in UNIONS["BuiltinOptions2"]
        record = Record(
            "Operator",
            opcode_index=self.code(op),
            inputs=_numbers(op.inputs, place),
            outputs=[place(tensor) for tensor in op.outputs],
            builtin_options=None if second else op.options,
            builtin_options_2=op.options if second else None,
            intermediates=None if op.intermediates is None else _numbers(op.intermediates, place),
            **op.rest,
        )
        if op.custom_options is not None:
            record.custom_options = np.frombuffer(op.custom_options, np.uint8)
        return record

    def code(self, op: Op) -> int:
        key = (op.name, op.custom, lowest_version(op))
        return self.codes.setdefault(key, len(self.codes))

    def signature(self, signature: Signature, graph: int, places: dict[Tensor, int]) -> Record:
        def named(ends: list[tuple[str, Tensor]]) -> list[Record]:
            return [Record("TensorMap", name=name, tensor_index=places[one]) for name, one in ends]

        return Record(
            "SignatureDef",
            inputs=named(signature.inputs),
            outputs=named(signature.outputs),
            signature_key=signature.key,
            deprecated_tag=signature.old_tag,
            subgraph_index=graph,
        )


def _tensors(model: Model, graph: Graph) -> list[Tensor]:
    """Those of the graph and what its signatures name, be it an end of the graph or not."""
    found = dict.fromkeys(graph.all_tensors())
    for signature in model.signatures:
        if signature.graph is graph:
            found.update((tensor, None) for _, tensor in (*signature.inputs, *signature.outputs))
    return list(found)


@dataclass
class _Shared:
    number: int
    place: int
    data: NDArray[np.uint8]
    digest: bytes


def _digest(data: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(data.data, digest_size=16).digest()


def _code(name: str, custom: str, version: int) -> Record:
    number = OPERATORS.index(name)
    return Record(
        "OperatorCode",
        deprecated_builtin_code=min(number, _OLD_LIMIT),
        custom_code=custom or None,
        version=version,
        builtin_code=number,
    )


def _numbers(tensors: Sequence[Tensor | None], place: _Place) -> list[int]:
    return [-1 if tensor is None else place(tensor) for tensor in tensors]


def _quantization(quantization: Quantization | None, place: _Place) -> Record | None:
    if quantization is None:
        return None
    details = quantization.details
    if details is not None and quantization.refers:
        numbers = {key: place(tensor) for key, tensor in quantization.refers}
        details = Record(details.kind, **{**details.values, **numbers})
    return Record(
        "QuantizationParameters",
        min=quantization.minimum,
        max=quantization.maximum,
        scale=quantization.scales or None,
        zero_point=quantization.zero_points or None,
        details=details,
        quantized_dimension=quantization.axis,
    )
