"""ONNX to float TFLite with onnx2tf: its own writer, and the one through TensorFlow."""

from __future__ import annotations

import logging
import math
import shutil
from abc import abstractmethod
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import BrokenOutput, StageFailed
from edgepipe.stage import Options, Product, Stage, option

from . import onnx_layout, onnx_rewrites

log = logging.getLogger(__name__)

_BATCH_CHANNELS_HEIGHT_WIDTH = 4


@dataclass(frozen=True)
class TfliteFromOnnxOptions(Options):
    keep_layout: bool = option(
        False, "inputs stay as the model has them (NCHW), at the price of a transpose each"
    )
    place_transposes: bool = option(
        True, "place the transposes of onnx2tf's own writer anew, as few as can be"
    )


class _Onnx2tf(Stage):
    """What both back-ends share: which inputs change layout, and what came out of it."""

    sources: ClassVar[tuple[Format, ...]] = (Format.ONNX,)
    target: ClassVar[Format] = Format.TFLITE
    options: ClassVar[type[Options]] = TfliteFromOnnxOptions
    renames: ClassVar[bool] = False
    """Whether the back-end writes names with `:` and `/` in another way."""

    def run(self, artifact: Artifact, options: TfliteFromOnnxOptions, workdir: Path) -> Product:
        onnx = import_module("onnx")
        model = onnx.load(str(artifact.path))
        names = onnx_rewrites.rename_ends(model) if self.renames else {}
        ends = _named(artifact.ends(), names)
        kept = _kept_inputs(model, ends, options.keep_layout)
        scratch = workdir / "onnx2tf"
        scratch.mkdir()
        try:
            written = self.convert(model, kept, options, scratch)
        except SystemExit as error:  # it calls sys.exit from within its library
            raise StageFailed(f"onnx2tf gave up with exit code {error.code!r}") from error
        except Exception as error:  # anything may come out of 380,000 lines
            raise StageFailed(f"onnx2tf failed: {_words(error)}") from error
        path = workdir / "model.tflite"
        shutil.move(written, path)
        shutil.rmtree(scratch)
        _check_loads(path)
        return _describe(path, ends)

    @abstractmethod
    def convert(
        self, model: Any, kept: list[str], options: TfliteFromOnnxOptions, folder: Path
    ) -> Path:
        """The float32 file that onnx2tf writes; the inputs in `kept` stay as they are."""


class TfliteFromOnnx(_Onnx2tf):
    """onnx2tf's `flatbuffer_direct` back-end, called below `onnx2tf.convert`.

    `convert` tries again with custom operators allowed when a lowering fails, whatever the
    option says, and ends well with a file that no runtime loads; the writer itself does not.
    It also needs neither sample images nor TensorFlow, and its graph can be mended before
    it is written.
    """

    name: ClassVar[str] = "tflite_from_onnx"
    label: ClassVar[str] = "onnx2tf"
    toolchain: ClassVar[str] = "onnx2tf"
    revision: ClassVar[int] = 1
    preload: ClassVar[tuple[str, ...]] = ("onnx", "onnx2tf.tflite_builder")

    def convert(
        self, model: Any, kept: list[str], options: TfliteFromOnnxOptions, folder: Path
    ) -> Path:
        from . import tflite_dense, tflite_layout, tflite_repair

        builder = import_module("onnx2tf.tflite_builder")
        builder.register_default_preprocess_rules()
        prepared, _ = builder.run_preprocess_pipeline(onnx_graph=model)
        lowered = builder.lower_onnx_to_ir(
            onnx_graph=prepared,
            output_file_name="model",
            allow_custom_ops=False,
            transpose_inputs_to_nhwc=True,
            keep_shape_absolutely_input_names=kept,
        )
        graph = builder.clone_model_ir_with_float32(lowered)
        builder.prune_identity_cast_operators(graph, preserve_model_outputs=True)
        builder.optimize_redundant_transpose_operators(graph, preserve_model_outputs=True)
        tflite_repair.reconnect(graph)
        tflite_dense.use_fully_connected(graph)
        if options.place_transposes:
            log.info("%d transposes went", tflite_layout.optimize(graph))
        builder.run_model_ir_validation_pipeline(graph)
        path = folder / "model_float32.tflite"
        builder.write_model_file(
            schema_tflite=builder.load_schema_module(str(folder)),
            model_ir=graph,
            output_tflite_path=str(path),
            timing={},
        )
        return path


class TfliteFromOnnxTensorflow(_Onnx2tf):
    """onnx2tf's `tf_converter` back-end: slower, reads operators that the other one lacks."""

    name: ClassVar[str] = "tflite_from_onnx.tensorflow"
    label: ClassVar[str] = "onnx2tf-tf"
    toolchain: ClassVar[str] = "onnx2tf-tensorflow"
    revision: ClassVar[int] = 1
    preload: ClassVar[tuple[str, ...]] = ("onnx", "onnx2tf.onnx2tf", "tensorflow")
    renames: ClassVar[bool] = True

    def convert(
        self, model: Any, kept: list[str], options: TfliteFromOnnxOptions, folder: Path
    ) -> Path:
        onnx = import_module("onnx")
        source = folder / "model.onnx"
        onnx.save(model, str(source))
        import_module("onnx2tf").convert(
            input_onnx_file_path=str(source),
            output_folder_path=str(folder),
            tflite_backend="tf_converter",
            keep_shape_absolutely_input_names=kept or None,
            not_use_onnxsim=True,
            output_signaturedefs=True,
            non_verbose=True,
        )
        return folder / "model_float32.tflite"


def _named(ends: Signature, names: dict[str, str]) -> Signature:
    """The ends with the names that they have in the graph that is converted."""

    def renamed(port: Port) -> Port:
        tensor = port.tensor or port.name
        return replace(port, tensor=names.get(tensor, tensor))

    return Signature(
        tuple(renamed(port) for port in ends.inputs), tuple(renamed(port) for port in ends.outputs)
    )


def _kept_inputs(model: Any, ends: Signature, keep_layout: bool) -> list[str]:
    """Inputs that keep their layout: onnx2tf would permute every tensor of rank 3, 4 and 5.

    Wrong for what Keras gives (channels last, a Transpose behind it) and of no use for
    sequences. Where the sizes can't tell afterwards what was done, nothing may be done.
    """
    first = onnx_layout.channels_first(model.graph)
    kept = []
    for port in ends.inputs:
        shape = port.shape or ()
        images = len(shape) >= _BATCH_CHANNELS_HEIGHT_WIDTH and port.tensor in first
        if keep_layout or not images or _looks_the_same_permuted(shape):
            kept.append(port.tensor)
    return kept


def _looks_the_same_permuted(shape: tuple[int | None, ...]) -> bool:
    return onnx_layout.permuted(shape, onnx_layout.channels_last(len(shape))) == shape


def _check_loads(path: Path) -> None:
    """onnx2tf ends well with files that no interpreter loads or runs; both show in milliseconds."""
    from edgepipe.tflite import reader

    missing = reader.read(path).never_made()
    if missing:
        raise BrokenOutput(f"onnx2tf wrote a file that reads what nothing makes: {missing!r}")
    litert = import_module("ai_edge_litert.interpreter")
    try:
        litert.Interpreter(model_path=str(path)).allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise BrokenOutput(f"onnx2tf wrote a file that LiteRT can't load: {error}") from error


def _describe(path: Path, ends: Signature) -> Product:
    """The given ends as they are in the file, and what is open about the outputs' layouts."""
    from edgepipe.tflite import reader

    found = reader.read(path).signature()
    inputs = [_locate(port, found.inputs) for port in ends.inputs]
    outputs = [_locate(port, found.outputs) for port in ends.outputs]
    layouts: dict[str, list[tuple[int, ...] | None]] = {}
    placed = []
    for port, there in zip(ends.outputs, outputs, strict=True):
        guesses = _guesses(port.shape, there.shape)
        whole = [onnx_layout.composed(port.permutation, guess) for guess in guesses]
        if len(whole) > 1:
            layouts[port.name] = whole
        placed.append(_port(port, there, whole[0]))
    signature = Signature(
        tuple(_input(port, there) for port, there in zip(ends.inputs, inputs, strict=True)),
        tuple(placed),
    )
    return Product(path, signature, layouts)


def _locate(port: Port, found: tuple[Port, ...]) -> Port:
    """An end of the file by its ONNX name, that of the tensor or that in the signature."""
    for there in found:
        if port.tensor in (there.name, there.tensor):
            return there
    raise BrokenOutput(
        f"onnx2tf lost {port.tensor!r}; the file has {[there.name for there in found]!r}"
    )


def _input(port: Port, there: Port) -> Port:
    guesses = _guesses(port.shape, there.shape)
    return _port(port, there, onnx_layout.composed(port.permutation, guesses[0]))


def _port(port: Port, there: Port, permutation: tuple[int, ...] | None) -> Port:
    return Port(port.name, there.shape, there.dtype, there.tensor, permutation, port.high)


def _guesses(
    before: tuple[int | None, ...] | None, after: tuple[int | None, ...] | None
) -> list[tuple[int, ...] | None]:
    """Permutations that lead from one shape to the other, the likelier one first."""
    if before is None or after is None or len(before) != len(after) or len(after) < 3:
        return [None]
    last = onnx_layout.channels_last(len(before))
    candidates: list[tuple[int, ...] | None] = [None, last]
    fitting = [
        axes
        for axes in candidates
        if _fits(before if axes is None else onnx_layout.permuted(before, axes), after)
    ]
    if not fitting and math.prod(size or 1 for size in before) == math.prod(
        size or 1 for size in after
    ):
        log.warning("no known layout leads from %s to %s", before, after)
    return fitting or [None]


def _fits(shape: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    return all(a == b or a is None or b is None for a, b in zip(shape, other, strict=True))


def _words(error: Exception) -> str:
    """Its last words, and the cause that it wraps."""
    cause = error.__cause__
    said = f"{type(error).__name__}: {str(error).strip()[:600]}"
    return f"{said} (from {cause})" if cause is not None and str(cause) not in said else said
