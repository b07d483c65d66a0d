"""Turns ONNX into OpenVINO's IR, in float32, by OpenVINO's own reader of ONNX."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import StageFailed
from edgepipe.stage import Options, Product, Stage


class OpenvinoFromOnnx(Stage):
    """Fixed shapes in; `model.xml` and `model.bin` in one folder out."""

    name: ClassVar[str] = "openvino_from_onnx"
    label: ClassVar[str] = "openvino"
    sources: ClassVar[tuple[Format, ...]] = (Format.ONNX,)
    target: ClassVar[Format] = Format.OPENVINO
    toolchain: ClassVar[str] = "openvino"
    revision: ClassVar[int] = 1
    preload: ClassVar[tuple[str, ...]] = ("openvino",)

    def run(self, artifact: Artifact, options: Options, workdir: Path) -> Product:
        openvino = importlib.import_module("openvino")
        ends = artifact.ends()
        # Not `convert_model`: that one reports its use, and reads ONNX no differently.
        try:
            model = openvino.Core().read_model(str(artifact.path))
            model.reshape(
                {port.tensor or port.name: list(port.shape or ()) for port in ends.inputs}
            )
        except RuntimeError as error:
            raise StageFailed(
                f"OpenVINO {openvino.__version__} can't read {artifact.path.name}: {error}"
            ) from error
        folder = workdir / "model"
        folder.mkdir()
        openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
        return Product(folder, _named(ends, model))


def _named(ends: Signature, model: Any) -> Signature:
    """The ends in the file's types; both sides keep ONNX's names and order."""
    return Signature(
        tuple(map(_typed, ends.inputs, model.inputs)),
        tuple(map(_typed, ends.outputs, model.outputs)),
    )


def _typed(port: Port, end: Any) -> Port:
    shape = tuple(end.shape) if end.partial_shape.is_static else port.shape
    return replace(port, shape=shape, dtype=str(end.element_type.to_dtype()))
