"""ONNX made easy for a converter: shapes fixed, constants folded, dead ends gone, one file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgepipe import onnx_file
from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import OptionError, StageFailed, UnknownName, UnsupportedModel
from edgepipe.stage import Options, Product, Stage, option

from . import onnx_fusions, onnx_normalization, onnx_rewrites

log = logging.getLogger(__name__)

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes of one protobuf message (https://protobuf.dev/programming-guides/proto-limits/)."""

IR_WITHOUT_INITIALIZER_INPUTS = 4
"""From this IR version on an initializer need not be an input too (onnx/docs/IR.md)."""


@dataclass(frozen=True)
class OnnxCleanOptions(Options):
    simplifier: Literal["auto", "onnxsim", "onnxslim", "none"] = option(
        "auto", "folds constants and dead ends; auto takes the first that leaves the model whole"
    )
    lowest_opset: int = option(
        13, "models of an older opset are brought to this one; 0 leaves every opset as it is"
    )
    fuse: bool = option(True, "GELU and HardSwish in pieces become one operator again")
    narrow_doubles: bool = option(True, "64-bit floats become 32-bit ones: no edge chip has them")
    constants: tuple[str, ...] = option(
        (), "inputs that are always the same number, as name=16000; If nodes on them are folded"
    )
    expand: tuple[str, ...] = option(
        (), "operators to replace by the primitives that ONNX defines them with"
    )


class OnnxClean(Stage):
    """Cases, as the tests name them:
    1. weights beside the file come into it;
    2. initializers among the inputs (opset 7 to 9) are inputs no more;
    3. open dimensions get the sizes of the artifact's signature;
    4. local functions are inlined and old opsets brought up;
    5. 64-bit floats become 32-bit ones, activations in pieces one operator;
    6. constants are folded, If nodes with a constant condition too;
    7. Identity, Concat of one, and what leads to no output go;
    8. names and order of inputs and outputs stay;
    9. layer normalization as Keras writes it subtracts the mean first.
    """

    name: ClassVar[str] = "onnx_clean"
    label: ClassVar[str] = ""
    sources: ClassVar[tuple[Format, ...]] = (Format.ONNX,)
    target: ClassVar[Format] = Format.ONNX
    toolchain: ClassVar[str] = "edge"
    revision: ClassVar[int] = 2
    options: ClassVar[type[Options]] = OnnxCleanOptions
    preload: ClassVar[tuple[str, ...]] = ("onnx", "onnxsim")

    def check(self, artifact: Artifact, options: OnnxCleanOptions) -> None:
        names = [port.name for port in artifact.ends().inputs]
        for name in _read_constants(options.constants):
            if name not in names:
                raise UnknownName.of("input", name, names)
        files = [artifact.path, *onnx_file.external_files(artifact.path)]
        size = sum(file.stat().st_size for file in files)
        if size > PROTOBUF_LIMIT:
            raise UnsupportedModel(
                f"{artifact.path.name} holds {size / 1e9:.1f} GB; "
                "an ONNX model in one file ends at 2.1 GB, and so does a TFLite one",
                hint="no edge chip runs it: start from a smaller model.",
            )

    def run(self, artifact: Artifact, options: OnnxCleanOptions, workdir: Path) -> Product:
        onnx = import_module("onnx")
        model = onnx.load(str(artifact.path))
        ends = artifact.ends()
        model = _pin(model, ends)
        onnx_rewrites.set_constants(model, _read_constants(options.constants))
        model = _modernize(model, options.lowest_opset)
        if options.narrow_doubles and onnx_rewrites.narrow_doubles(model):
            log.info("64-bit floats became 32-bit ones")
        if options.fuse:
            model = onnx_fusions.fuse(model)
        cleaned, notes = _simplify(model, ends, options.simplifier)
        onnx_rewrites.tidy(cleaned)
        if options.fuse and onnx_normalization.subtract_mean_first(cleaned):
            onnx_rewrites.tidy(cleaned)
        if options.expand:
            cleaned = onnx_rewrites.expand(cleaned, set(options.expand))
        cleaned = _infer(cleaned)
        path = workdir / "model.onnx"
        onnx.save(cleaned, str(path))
        return Product(path, _signature(path, ends), notes=tuple(notes))


def _pin(model: Any, ends: Signature) -> Any:
    """Cases 2 and 3; shapes inferred from open dimensions are forgotten and inferred anew."""
    graph = model.graph
    initializers = {tensor.name for tensor in graph.initializer}
    real = [value for value in graph.input if value.name not in initializers]
    del graph.input[:]
    graph.input.extend(real)
    model.ir_version = max(model.ir_version, IR_WITHOUT_INITIALIZER_INPUTS)
    sizes = {port.tensor or port.name: port.shape for port in ends.inputs}
    for value in graph.input:
        shape = value.type.tensor_type.shape
        shape.SetInParent()  # without it a scalar has an unknown rank
        del shape.dim[:]
        for size in sizes[value.name] or ():
            shape.dim.add().dim_value = size or 0
    del graph.value_info[:]
    return _with_output_shapes(model)


def _with_output_shapes(model: Any) -> Any:
    """Outputs as they follow from the inputs; where they don't, the rank that the file says."""
    bare = _copy(model)
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    shaped = _infer(bare)
    del shaped.graph.value_info[:]
    for value, before in zip(shaped.graph.output, model.graph.output, strict=True):
        if not value.type.tensor_type.HasField("shape"):
            value.type.CopyFrom(before.type)
            for index, size in enumerate(value.type.tensor_type.shape.dim):
                size.dim_param = f"{value.name}_{index}"
    return shaped


def _read_constants(settings: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for setting in settings:
        name, _, value = setting.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise OptionError(
                f"onnx_clean.constants takes name=number, received {setting!r}"
            ) from error
    return found


def _modernize(model: Any, lowest_opset: int) -> Any:
    """Case 4."""
    if model.functions:
        inliner = import_module("onnx.inliner")
        model = inliner.inline_local_functions(model)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if 0 < opset < lowest_opset:
        converter = import_module("onnx.version_converter")
        try:
            return converter.convert_version(model, lowest_opset)
        except Exception as error:  # onnx's C++ errors share no base class
            # Some operators have no adapter; converters often read the old form as it is.
            log.warning("opset %d stays: %s", opset, error)
    return model


def _simplify(model: Any, ends: Signature, choice: str) -> tuple[Any, list[str]]:
    """Case 6: the first simplifier whose result is whole, and what was wrong with the others."""
    names = ("onnxsim", "onnxslim") if choice == "auto" else (choice,)
    notes: list[str] = []
    for name in names:
        if name == "none":
            break
        try:
            made = _SIMPLIFIERS[name](model)
            _restore_inputs(made, model)
            _check_whole(made, ends)
            return made, notes
        except Exception as error:  # third-party passes over any graph: anything may come
            log.warning("%s failed: %s", name, error)
            notes.append(f"{name} left the model broken: {_first_line(error)}")
    if choice not in ("auto", "none"):
        raise StageFailed(notes[-1], hint="--set onnx_clean.simplifier=auto tries others.")
    return model, notes


def _onnxsim(model: Any) -> Any:
    made, _ = import_module("onnxsim").simplify(_copy(model))
    return made


def _onnxslim(model: Any) -> Any:
    return import_module("onnxslim").slim(_copy(model))


_SIMPLIFIERS: dict[str, Callable[[Any], Any]] = {"onnxsim": _onnxsim, "onnxslim": _onnxslim}


def _copy(message: Any) -> Any:
    """The simplifiers change what they are given, also when they fail."""
    twin = type(message)()
    twin.CopyFrom(message)
    return twin


def _restore_inputs(made: Any, model: Any) -> None:
    """onnxslim drops inputs that nothing reads; the caller still feeds them."""
    left = {value.name: value for value in made.graph.input}
    inputs = [left.get(value.name, value) for value in model.graph.input]
    if len(inputs) > len(left):
        kept = [_copy(value) for value in inputs]
        del made.graph.input[:]
        made.graph.input.extend(kept)


def _check_whole(model: Any, ends: Signature) -> None:
    """Structure and ends, checked without running it."""
    import_module("onnx").checker.check_model(model, full_check=False)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in initializers]
    outputs = [value.name for value in model.graph.output]
    for kind, ports, found in (("inputs", ends.inputs, inputs), ("outputs", ends.outputs, outputs)):
        wanted = [port.tensor or port.name for port in ports]
        if found != wanted:
            raise StageFailed(f"its {kind} are {found}, expected {wanted}")


def _infer(model: Any) -> Any:
    """Shapes for every value that can have one: onnx2tf guesses where there is none."""
    inference = import_module("onnx.shape_inference")
    for strict in (True, False):
        try:
            return inference.infer_shapes(model, strict_mode=strict, data_prop=True)
        except Exception as error:  # onnx's C++ errors share no base class
            log.warning("shape inference (strict: %s) failed: %s", strict, error)
    return model


def _signature(path: Path, ends: Signature) -> Signature:
    """The given ends with the shapes that the clean file says."""
    found = onnx_file.read(path).signature
    outputs = {port.name: port for port in found.outputs}
    inputs = {port.name: port for port in found.inputs}
    return Signature(
        tuple(_updated(port, inputs) for port in ends.inputs),
        tuple(_updated(port, outputs) for port in ends.outputs),
    )


def _updated(port: Port, found: dict[str, Port]) -> Port:
    now = found.get(port.tensor or port.name, port)
    return Port(port.name, now.shape, now.dtype, port.tensor, port.permutation, port.high)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
