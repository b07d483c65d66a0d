"""Keras models and SavedModels to quantized TFLite, by TensorFlow's own converter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgepipe import catalog
from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import OptionError, StageFailed
from edgepipe.runners.keras_loading import tensorflow
from edgepipe.stage import Options, Product, Stage, option

from . import tflite_from_keras

if TYPE_CHECKING:
    from edgepipe.dataset import Dataset
    from edgepipe.learning import Written

    Samples = Dataset | Written


@dataclass(frozen=True)
class ConverterOptions(Options):
    """What TFLiteConverter can be told of quantization; it calibrates by its own min-max."""

    scheme: Literal["int8", "int16x8", "dynamic", "float16"] = option(
        "int8", "int8, int16x8, dynamic or float16."
    )
    io: Literal["auto", "int8", "uint8", "int16", "float32"] = option(
        "auto", "Type of inputs and outputs; auto is the scheme's own."
    )
    weights: Literal["per-channel", "per-tensor"] = option(
        "per-channel", "A scale for each channel of weights, or one."
    )
    dense_weights: Literal["per-channel", "per-tensor"] | None = option(
        None, "The same for dense layers; as weights when left out."
    )
    allow_float: bool = option(False, "Accept operators that stay in float.")

    def ends(self) -> str:
        return catalog.ends_of(self.scheme, self.io)


class TfliteQuantizedFromKeras(Stage):
    """The direct route to integers. Full-integer builtins only, unless floats are allowed."""

    name: ClassVar[str] = "tflite_quantized_from_keras"
    label: ClassVar[str] = "tflite-converter-quant"
    sources: ClassVar[tuple[Format, ...]] = tflite_from_keras.TfliteFromKeras.sources
    target: ClassVar[Format] = Format.TFLITE_QUANTIZED
    toolchain: ClassVar[str] = "keras"
    revision: ClassVar[int] = 3
    options: ClassVar[type[Options]] = ConverterOptions
    preload: ClassVar[tuple[str, ...]] = tflite_from_keras.TfliteFromKeras.preload

    def learns(self, options: ConverterOptions) -> bool:
        return options.scheme in catalog.CALIBRATED

    def check(self, artifact: Artifact, options: ConverterOptions) -> None:
        allowed = catalog.ENDS[options.scheme]
        if options.io not in ("auto", *allowed):
            raise OptionError(
                f"a model of {options.scheme} has no {options.io} ends",
                hint=f"they can be: {', '.join(allowed)}.",
            )

    def run(self, artifact: Artifact, options: ConverterOptions, workdir: Path) -> Product:
        return self.run_on(artifact, options, workdir, None)

    def run_on(
        self, artifact: Artifact, options: ConverterOptions, workdir: Path, data: Samples | None
    ) -> Product:
        count = 0

        def samples() -> Iterator[dict[str, Any]]:
            nonlocal count
            for sample in data or ():
                count += 1
                keyed = tflite_from_keras.keyed(artifact.ends().inputs)
                yield {key: sample.feeds[port.name] for port, key in keyed}

        def configure(converter: Any) -> None:
            _configure(converter, options)
            if self.learns(options):
                if data is None:
                    raise StageFailed(f"{options.scheme} needs samples to calibrate on")
                converter.representative_dataset = samples

        path, signature = tflite_from_keras.convert(
            artifact, workdir, configure, self.learns(options)
        )
        if options.scheme == "int8":
            import_module("edgepipe.quantization.integer_islands").close(path)
        notes = import_module("edgepipe.quantization.integer_check").check(
            path, options.scheme, options.ends(), options.allow_float
        )
        facts: dict[str, Any] = {}
        if data is not None and self.learns(options):
            facts = {"samples": count, "calibration": data.source.words()}
            notes = [f"calibrated on {count} samples (TFLiteConverter's min-max)", *notes]
            if data.source.random:
                notes.append("random calibration: figures mean nothing for your data")
        import_module("edgepipe.quantization.recipe").write(workdir, self.name, options, facts)
        return Product(path, _with_types(signature, path), notes=tuple(notes))


def _configure(converter: Any, options: ConverterOptions) -> None:
    tf = tensorflow()
    sets = tf.lite.OpsSet
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel = options.weights == "per-tensor"
    converter._experimental_disable_per_channel_quantization_for_dense_layers = (
        options.dense_weights or options.weights
    ) == "per-tensor"
    if options.scheme == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if options.scheme not in catalog.CALIBRATED:
        return
    wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    integers = wide if options.scheme == "int16x8" else sets.TFLITE_BUILTINS_INT8
    others = [sets.TFLITE_BUILTINS] if options.allow_float else []
    converter.target_spec.supported_ops = [integers, *others]
    ends = getattr(tf, options.ends())
    converter.inference_input_type = converter.inference_output_type = ends


def _with_types(signature: Signature, path: Path) -> Signature:
    """The ports with the types that are in the file now."""
    from edgepipe.tflite import reader

    main = reader.read(path).main
    found = {tensor.name: tensor.dtype for tensor in main.tensors}

    def typed(ports: tuple[Port, ...]) -> tuple[Port, ...]:
        return tuple(replace(port, dtype=found[port.tensor or port.name]) for port in ports)

    return Signature(typed(signature.inputs), typed(signature.outputs))
