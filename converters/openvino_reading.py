"""Reads a model with one of OpenVINO's own readers, fixes its shapes, and writes its IR."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepipe.artifact import Artifact, Port, Signature
from edgepipe.errors import StageFailed
from edgepipe.stage import Product


def read_and_save(artifact: Artifact, workdir: Path) -> Product:
    """The ends keep the names and order of the artifact; their types are those of the file."""
    openvino = importlib.import_module("openvino")
    ends = artifact.ends()
    # Not `convert_model`: that one reports its use, and reads no differently.
    try:
        model = openvino.Core().read_model(str(artifact.path))
        inputs = _in_order(ends.inputs, model.inputs, artifact.path)
        outputs = _in_order(ends.outputs, model.outputs, artifact.path)
        model.reshape(
            {end: list(port.shape or ()) for port, end in zip(ends.inputs, inputs, strict=True)}
        )
    except RuntimeError as error:
        raise StageFailed(
            f"OpenVINO {openvino.__version__} can't read {artifact.path.name}: {error}"
        ) from error
    folder = workdir / "model"
    folder.mkdir()
    signature = Signature(
        tuple(map(_typed, ends.inputs, inputs)), tuple(map(_typed, ends.outputs, outputs))
    )
    openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    return Product(folder, signature)


def _in_order(ports: Sequence[Port], ends: Sequence[Any], path: Path) -> list[Any]:
    """The model's end of each port, by name."""
    by_name = {name: end for end in ends for name in end.get_names()}
    found = []
    for port in ports:
        name = port.tensor or port.name
        if name not in by_name:
            raise StageFailed(
                f"OpenVINO reads {path.name} without {name!r}; it has {sorted(by_name)!r}"
            )
        found.append(by_name[name])
    return found


def _typed(port: Port, end: Any) -> Port:
    shape = tuple(end.shape) if end.partial_shape.is_static else port.shape
    return replace(port, shape=shape, dtype=str(end.element_type.to_dtype()))
