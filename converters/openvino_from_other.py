"""Turns TFLite and SavedModel folders into OpenVINO's IR, by OpenVINO's own readers of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from edgepipe.artifact import Artifact, Format
from edgepipe.stage import Options, Product, Stage

from .openvino_reading import read_and_save


class OpenvinoFromTflite(Stage):
    """A float TFLite file; the layout stays TFLite's."""

    name: ClassVar[str] = "openvino_from_tflite"
    label: ClassVar[str] = "openvino"
    sources: ClassVar[tuple[Format, ...]] = (Format.TFLITE,)
    target: ClassVar[Format] = Format.OPENVINO
    toolchain: ClassVar[str] = "openvino"
    revision: ClassVar[int] = 2
    shuns_onnx: ClassVar[bool] = True
    preload: ClassVar[tuple[str, ...]] = ("openvino",)

    def run(self, artifact: Artifact, options: Options, workdir: Path) -> Product:
        from . import openvino_tflite_mends  # It needs numpy, which laying out a plan doesn't.

        path = openvino_tflite_mends.readable(artifact.path, workdir)
        return read_and_save(replace(artifact, path=path), workdir)


class OpenvinoFromSavedModel(Stage):
    """A SavedModel's `serving_default`; no TensorFlow takes part."""

    name: ClassVar[str] = "openvino_from_saved_model"
    label: ClassVar[str] = "openvino.tf"
    sources: ClassVar[tuple[Format, ...]] = (Format.SAVED_MODEL,)
    target: ClassVar[Format] = Format.OPENVINO
    toolchain: ClassVar[str] = "openvino"
    revision: ClassVar[int] = 1
    preload: ClassVar[tuple[str, ...]] = ("openvino",)

    def run(self, artifact: Artifact, options: Options, workdir: Path) -> Product:
        return read_and_save(artifact, workdir)
