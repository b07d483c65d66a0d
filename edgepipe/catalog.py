"""The one table: stages, runners, readers of data, targets, toolchains: names to dotted strings.

Nothing here imports a framework, and nothing else holds a list of its own.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Format
from edgepipe.errors import UnknownName
from edgepipe.targets.ethosu.accelerators import ACCELERATORS

if TYPE_CHECKING:
    from edgepipe.runner import Runner
    from edgepipe.stage import Stage

STAGES: dict[str, str] = {
    "onnx_from_keras": "edgepipe.converters.onnx_from_keras:OnnxFromKeras",
    "onnx_from_saved_model": "edgepipe.converters.onnx_from_saved_model:OnnxFromSavedModel",
    "onnx_from_torch.dynamo": "edgepipe.converters.onnx_from_torch:OnnxFromTorchDynamo",
    "onnx_from_torch.torchscript": "edgepipe.converters.onnx_from_torch:OnnxFromTorchScript",
    "onnx_clean": "edgepipe.converters.onnx_clean:OnnxClean",
    "tflite_from_onnx": "edgepipe.converters.tflite_from_onnx:TfliteFromOnnx",
    "tflite_from_onnx.tensorflow": "edgepipe.converters.tflite_from_onnx:TfliteFromOnnxTensorflow",
    "tflite_from_keras": "edgepipe.converters.tflite_from_keras:TfliteFromKeras",
    "tflite_from_torch": "edgepipe.converters.tflite_from_torch:TfliteFromTorch",
    "openvino_from_onnx": "edgepipe.converters.openvino_from_onnx:OpenvinoFromOnnx",
    "openvino_from_tflite": "edgepipe.converters.openvino_from_other:OpenvinoFromTflite",
    "openvino_from_saved_model": ("edgepipe.converters.openvino_from_other:OpenvinoFromSavedModel"),
    "openvino_quantize": "edgepipe.quantization.openvino_quantize:OpenvinoQuantize",
    "tflite_quantize": "edgepipe.quantization.tflite_quantize:TfliteQuantize",
    "tflite_quantized_from_keras": (
        "edgepipe.converters.tflite_quantized_from_keras:TfliteQuantizedFromKeras"
    ),
    "edgetpu_legalise": "edgepipe.converters.edgetpu_legalise:EdgetpuLegalise",
    "edgetpu_compile": "edgepipe.converters.edgetpu_compile:EdgetpuCompile",
    "ethosu_from_tflite": "edgepipe.converters.ethosu_from_tflite:EthosuFromTflite",
}
"""In order of preference: of several from one format to the next, the first is tried first."""

RUNNERS: dict[Format, str] = {
    Format.KERAS: "edgepipe.runners.keras:KerasRunner",
    Format.KERAS_H5: "edgepipe.runners.keras:KerasRunner",
    Format.SAVED_MODEL: "edgepipe.runners.saved_model:SavedModelRunner",
    Format.TORCH_EXPORT: "edgepipe.runners.torch:TorchRunner",
    Format.TORCHSCRIPT: "edgepipe.runners.torch:TorchRunner",
    Format.TORCH_PICKLE: "edgepipe.runners.torch:TorchRunner",
    Format.TORCH_SOURCE: "edgepipe.runners.torch:TorchRunner",
    Format.ONNX: "edgepipe.runners.onnx:OnnxRunner",
    Format.TFLITE: "edgepipe.runners.tflite:TfliteRunner",
    Format.TFLITE_QUANTIZED: "edgepipe.runners.tflite:TfliteRunner",
    Format.OPENVINO: "edgepipe.runners.openvino:OpenvinoRunner",
    Format.OPENVINO_QUANTIZED: "edgepipe.runners.openvino:OpenvinoRunner",
    Format.EDGETPU: "edgepipe.runners.edgetpu:EdgetpuRunner",
    Format.ETHOSU: "edgepipe.runners.ethosu:EthosuRunner",
}

READERS: dict[str, str] = {
    "random": "edgepipe.data.noise:NoiseReader",
    "function": "edgepipe.data.function:FunctionReader",
    "array": "edgepipe.data.arrays:ArrayReader",
    "arrays": "edgepipe.data.array_files:ArrayFilesReader",
    "images": "edgepipe.data.pixels:ImageReader",
    "sounds": "edgepipe.data.sound:SoundReader",
    "table": "edgepipe.data.table:TableReader",
}
"""Kinds of data, see `edgepipe.dataset`."""

METRICS: dict[str, str] = {
    "top1": "edgepipe.validation.metrics.classification:Top1",
    "f1": "edgepipe.validation.metrics.classification:F1",
    "f1-binary": "edgepipe.validation.metrics.classification:BinaryF1",
    "binary-accuracy": "edgepipe.validation.metrics.classification:BinaryAccuracy",
    "auc": "edgepipe.validation.metrics.ranking:Auc",
    "mae": "edgepipe.validation.metrics.regression:Mae",
    "rmse": "edgepipe.validation.metrics.regression:Rmse",
    "r2": "edgepipe.validation.metrics.regression:R2",
    "pearson": "edgepipe.validation.metrics.regression:Pearson",
    "miou": "edgepipe.validation.metrics.segmentation:MeanIou",
    "pixel-accuracy": "edgepipe.validation.metrics.segmentation:PixelAccuracy",
    "map": "edgepipe.validation.metrics.detection:MeanAveragePrecision",
    "map50": "edgepipe.validation.metrics.detection:HalfOverlap",
    "map-by-id": "edgepipe.validation.metrics.detection:MapById",
    "agreement": "edgepipe.validation.metrics.likeness:Agreement",
    "sqnr": "edgepipe.validation.metrics.likeness:Sqnr",
    "cosine": "edgepipe.validation.metrics.likeness:Cosine",
}
"""What a validation can measure; `top5` and any other `topK` beside them."""

POSTPROCESSING: dict[str, str] = {
    "softmax": "edgepipe.validation.postprocessing:softmax",
    "sigmoid": "edgepipe.validation.postprocessing:sigmoid",
    "argmax": "edgepipe.validation.postprocessing:argmax",
    "yolo": "edgepipe.validation.boxes:yolo",
    "ssd": "edgepipe.validation.boxes:ssd",
}
"""What may be done to outputs before metrics see them, beside `module:function`."""

TOOLCHAINS: tuple[str, ...] = (
    "keras",
    "torch",
    "onnx2tf",
    "onnx2tf-tensorflow",
    "litert-torch",
    "edge",
    "openvino",
    "vela",
    "tflite-micro",
    "coco",
)


FLOAT = "float32"
CALIBRATED = ("int8", "int16x8")
"""Precisions whose integers are fitted to samples."""
ENDS = {
    "int8": ("int8", "uint8", "float32"),
    "int16x8": ("int16", "float32"),
    "dynamic": ("float32",),
    "float16": ("float32",),
    "int8-weights": ("float32",),
    "int4-weights": ("float32",),
}
"""Types that the inputs and outputs of a precision can have, its own one first."""


def ends_of(precision: str, io: str) -> str:
    """The type that was asked for, or the precision's own."""
    return ENDS[precision][0] if io == "auto" else io


@dataclass(frozen=True)
class Target:
    """What a chip or runtime accepts; data only."""

    name: str
    format: Format
    precisions: tuple[str, ...]
    words: str
    quantized: Format | None = None
    """Of every precision but float32."""
    compiled: Format | None = None
    """What a chip's own compiler makes of that: there the routes end."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What it says of stages."""
    flags: tuple[str, ...] = ()
    """Those about compiling, or the device, that mean something to it."""

    def format_of(self, precision: str) -> Format:
        """Where the routes of a precision end."""
        if self.compiled is not None:
            return self.compiled
        return self.format if precision == FLOAT or self.quantized is None else self.quantized


def _ethosu(name: str) -> Target:
    return Target(
        name,
        Format.TFLITE,
        CALIBRATED,
        f"Arm's {name.replace('ethos-u', 'Ethos-U')}, by Vela",
        Format.TFLITE_QUANTIZED,
        Format.ETHOSU,
        {"ethosu_from_tflite": {"accelerator": name}},
        ("--no-compile", "--require-full-mapping", "--max-sram", "--max-flash", "--emit"),
    )


TARGETS: dict[str, Target] = {
    "onnx": Target("onnx", Format.ONNX, (FLOAT,), "ONNX, for any ONNX runtime"),
    "tflite": Target(
        "tflite",
        Format.TFLITE,
        (FLOAT, *CALIBRATED, "dynamic", "float16"),
        "TFLite, for LiteRT on any CPU",
        Format.TFLITE_QUANTIZED,
    ),
    "openvino": Target(
        "openvino",
        Format.OPENVINO,
        (FLOAT, "int8", "float16", "int8-weights", "int4-weights"),
        "OpenVINO's IR, for Intel's processors",
        Format.OPENVINO_QUANTIZED,
        flags=("--device",),
    ),
    "edgetpu": Target(
        "edgetpu",
        Format.TFLITE,
        ("int8",),
        "the Coral Edge TPU, by its own compiler",
        Format.TFLITE_QUANTIZED,
        Format.EDGETPU,
        flags=(
            "--compiler",
            "--device",
            "--no-compile",
            "--require-full-mapping",
            "--max-streamed-bytes",
            "--runtime-version",
        ),
    ),
    **{name: _ethosu(name) for name in ACCELERATORS},
}


def load(dotted: str) -> Any:
    """The object behind `package.module:name`."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)


@functools.cache
def stage(name: str) -> Stage:
    if name not in STAGES:
        raise UnknownName.of("stage", name, STAGES)
    made: Stage = load(STAGES[name])()
    return made


def stages() -> Iterable[Stage]:
    return (stage(name) for name in STAGES)


def runner(format: Format) -> type[Runner]:
    kind: type[Runner] = load(RUNNERS[format])
    return kind


def target(name: str) -> Target:
    if name not in TARGETS:
        raise UnknownName.of("target", name, TARGETS)
    return TARGETS[name]
