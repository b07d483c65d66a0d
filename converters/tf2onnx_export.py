"""Traced TensorFlow functions to ONNX files: tf2onnx, then the names that the model has."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe.artifact import Port, Signature
from edgepipe.errors import OptionError, StageFailed
from edgepipe.runners.static_function import StaticFunction, freeze
from edgepipe.stage import Options, Product, option

from .tf2onnx_naming import check_operators, name_ends
from .tf2onnx_storage import save, save_with_storage
from .xla_functions import has_compiled, without_compiled

log = logging.getLogger(__name__)

PRELOAD = ("edgepipe.runners.keras_environment", "tensorflow", "tf2onnx")
OPSETS = range(13, 19)
"""Below 13 there is no per-channel scale; 18 is the last that tf2onnx 1.17 knows."""
PROTOBUF_LIMIT = 1_900_000_000
"""Bytes of weights that a protobuf message (2 GiB at most) holds, with room for the graph."""
TO_NCHW = (0, 3, 1, 2)


@dataclass(frozen=True)
class Tf2onnxOptions(Options):
    opset: int = option(15, "ONNX opset, 13 to 18")
    nchw_inputs: bool = option(
        False, "take images as NCHW instead of NHWC: every input of four dimensions"
    )
    external_data: bool = option(
        False, "keep the weights in a file beside the model, as is always done near 2 GB"
    )


def check_opset(options: Tf2onnxOptions) -> None:
    if options.opset not in OPSETS:
        raise OptionError(
            f"tf2onnx writes opset {OPSETS[0]} to {OPSETS[-1]}, received {options.opset!r}",
            hint="15 is the one that tf2onnx is tested with.",
        )


@dataclass(frozen=True)
class _Ready:
    """What tf2onnx calls a function: it asks only for the concrete one, which is traced already."""

    concrete: Any

    def get_concrete_function(self, *_: Any) -> Any:
        return self.concrete


def export(static: StaticFunction, options: Tf2onnxOptions, workdir: Path) -> Product:
    """Convert, name the ends as the model does, and write `model.onnx` below workdir."""
    large = static.weight_bytes() > PROTOBUF_LIMIT
    turned = [port.name for port in static.signature.inputs if _is_image(port)]
    turned = turned if options.nchw_inputs else []
    proto, storage = _convert(static, options.opset, turned, large)
    signature = _turn(static.signature, turned)
    name_ends(proto, signature, _input_tensors(static), _output_tensors(static))
    check_operators(proto)
    path = workdir / "model.onnx"
    if large:
        save_with_storage(proto, storage.name_to_tensor_data, path)
    else:
        save(proto, path, external=options.external_data)
    return Product(path, signature)


def _convert(static: StaticFunction, opset: int, turned: list[str], large: bool) -> tuple[Any, Any]:
    """One run without tf2onnx's safety copies; where that fails, one with them."""
    from .tf2onnx_mends import mended

    concrete = _concrete(static)
    tensors = _input_tensors(static)
    ports = static.signature.inputs
    nchw = [name for name, port in zip(tensors, ports, strict=True) if port.name in turned]
    settings = {"opset": opset, "inputs_as_nchw": nchw, "large_model": large}
    try:
        with mended(copies=False):
            return _from_function(concrete, settings)
    except Exception as error:
        log.info("tf2onnx failed, trying again with its own recovery: %s", error)
    try:
        with mended(copies=True):
            return _from_function(concrete, settings)
    except Exception as error:
        raise StageFailed(
            f"tf2onnx raised {type(error).__name__}: {str(error)[:1000]}",
            hint="the direct route to TFLite doesn't need ONNX.",
        ) from error


def _from_function(concrete: Any, settings: dict[str, Any]) -> tuple[Any, Any]:
    from .tf2onnx_mends import operator_handlers

    convert = importlib.import_module("tf2onnx").convert
    proto, storage = convert.from_function(
        _Ready(concrete), input_signature=(), custom_op_handlers=operator_handlers(), **settings
    )
    return proto, storage


def _concrete(static: StaticFunction) -> Any:
    """The traced function as tf2onnx can take it.

    Constants that a SavedModel captured it would take for inputs, and what asks for XLA it would
    leave as a call.
    """
    captured = any(one.dtype.name != "resource" for one in static.concrete.captured_inputs)
    compiled = has_compiled(static.concrete)
    if not captured and not compiled:
        return static.concrete
    frozen = freeze(static.concrete, lower_loops=False)
    return without_compiled(frozen) if compiled else frozen


def _input_tensors(static: StaticFunction) -> list[str]:
    given = len(static.signature.inputs)
    return [tensor.name for tensor in static.concrete.inputs[:given]]


def _output_tensors(static: StaticFunction) -> list[str]:
    return [tensor.name for tensor in static.concrete.outputs]


def _is_image(port: Port) -> bool:
    return port.shape is not None and len(port.shape) == 4


def _turn(signature: Signature, turned: list[str]) -> Signature:
    inputs = tuple(
        replace(
            port, shape=tuple((port.shape or ())[axis] for axis in TO_NCHW), permutation=TO_NCHW
        )
        if port.name in turned
        else port
        for port in signature.inputs
    )
    return replace(signature, inputs=inputs)


def _permuted(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return tuple(shape[axis] for axis in TO_NCHW)
