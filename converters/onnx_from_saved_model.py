"""SavedModel folders to ONNX, by tf2onnx on their signature with fixed shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from edgepipe.artifact import Artifact, Format
from edgepipe.runners.static_function import open_static
from edgepipe.stage import Options, Product, Stage

from .tf2onnx_export import PRELOAD, Tf2onnxOptions, check_opset, export


class OnnxFromSavedModel(Stage):
    """The signature is traced anew within a function of fixed shapes: a saved one keeps its own."""

    name: ClassVar[str] = "onnx_from_saved_model"
    label: ClassVar[str] = "tf2onnx"
    sources: ClassVar[tuple[Format, ...]] = (Format.SAVED_MODEL,)
    target: ClassVar[Format] = Format.ONNX
    toolchain: ClassVar[str] = "keras"
    revision: ClassVar[int] = 1
    options: ClassVar[type[Options]] = Tf2onnxOptions
    preload: ClassVar[tuple[str, ...]] = PRELOAD

    def check(self, artifact: Artifact, options: Any) -> None:
        check_opset(options)

    def run(self, artifact: Artifact, options: Any, workdir: Path) -> Product:
        return export(open_static(artifact), options, workdir)
