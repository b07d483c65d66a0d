"""Turns ONNX into OpenVINO's IR, in float32, by OpenVINO's own reader of ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from edgepipe.artifact import Artifact, Format
from edgepipe.stage import Options, Product, Stage

from .openvino_reading import read_and_save


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
        return read_and_save(artifact, workdir)
