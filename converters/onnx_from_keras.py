"""Keras models to ONNX, by tf2onnx on a function traced with fixed shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from edgepipe.artifact import Artifact, Format
from edgepipe.runners.static_function import open_static
from edgepipe.stage import Options, Product, Stage

from .tf2onnx_export import PRELOAD, Tf2onnxOptions, check_opset, export


class OnnxFromKeras(Stage):
    """Not by tf2onnx's `from_keras`, which leaves Keras 3's batch open and its names behind."""

    name: ClassVar[str] = "onnx_from_keras"
    label: ClassVar[str] = "tf2onnx"
    sources: ClassVar[tuple[Format, ...]] = (Format.KERAS, Format.KERAS_H5)
    target: ClassVar[Format] = Format.ONNX
    toolchain: ClassVar[str] = "keras"
    revision: ClassVar[int] = 1
    options: ClassVar[type[Options]] = Tf2onnxOptions
    preload: ClassVar[tuple[str, ...]] = PRELOAD

    def check(self, artifact: Artifact, options: Any) -> None:
        check_opset(options)

    def run(self, artifact: Artifact, options: Any, workdir: Path) -> Product:
        return export(open_static(artifact), options, workdir)
