"""Writes an ONNX model, its weights within or in one file beside it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ALIGNMENT = 64
"""Bytes; ONNX asks for a page only where the file is mapped, kernels for a cache line."""


def save(proto: Any, path: Path, *, external: bool) -> None:
    """Write the model; with `external`, its large tensors go to `<name>.data`."""
    onnx = importlib.import_module("onnx")
    if external:
        onnx.save_model(
            proto,
            str(path),
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=f"{path.name}.data",
            size_threshold=1024,
        )
    else:
        path.write_bytes(proto.SerializeToString())


def save_with_storage(proto: Any, storage: Mapping[str, bytes], path: Path) -> None:
    """Write a model whose tensors refer to entries of `storage`, all of them into one file."""
    location = f"{path.name}.data"
    with (path.parent / location).open("wb") as file:
        for tensor in _external_tensors(proto.graph):
            data = storage[tensor.external_data[0].value]
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            _point(tensor, location, file.tell(), len(data))
            file.write(data)
    path.write_bytes(proto.SerializeToString())


def _external_tensors(graph: Any) -> Iterator[Any]:
    tensors = [*graph.initializer]
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t] if attribute.HasField("t") else []
            if attribute.HasField("g"):
                yield from _external_tensors(attribute.g)
    yield from (tensor for tensor in tensors if tensor.external_data)


def _point(tensor: Any, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
