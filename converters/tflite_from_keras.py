"""Keras models and SavedModels to TFLite, by TensorFlow's own converter."""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import BrokenOutput, StageFailed
from edgepipe.runners.keras_loading import tensorflow
from edgepipe.runners.static_function import (
    StaticFunction,
    op_names,
    open_static,
    tensor_spec,
)
from edgepipe.stage import Options, Product, Stage, option

NEEDS_FLEX = re.compile(r"^\s*tf\.(\w+)\(", re.MULTILINE)
"""How the converter lists, one a line, the operators that only Flex or a custom kernel has."""


@dataclass(frozen=True)
class TfliteFromKerasOptions(Options):
    select_tf_ops: bool = option(
        False, "allow TensorFlow's own operators, which need the Flex runtime on the device"
    )
    unroll: bool = option(
        False, "recurrent Keras layers step by step: a loop stays in float (int8 sets this)"
    )


class TfliteFromKeras(Stage):
    """The direct route: TensorFlow's converter on a function with fixed shapes, builtins only.

    1. Saved anew, the converter reads the weights from a SavedModel: 11 s and 3.5 GB for 400 MB
       of weights, where a frozen function costs it 58 s and 10 GB.
    2. Its variables are held one by one. With a Keras 3 model as the tracked object (and
       `from_concrete_functions`) it writes VAR_HANDLE and READ_VARIABLE for every weight, which
       read as zeros or NaN; `from_keras_model` leaves the batch open, and SHAPE and
       STRIDED_SLICE appear (tensorflow 2.21, keras 3.15).
    3. The file lists its ends sorted by name: they are put in the model's order.
    """

    name: ClassVar[str] = "tflite_from_keras"
    label: ClassVar[str] = "tflite-converter"
    sources: ClassVar[tuple[Format, ...]] = (Format.KERAS, Format.KERAS_H5, Format.SAVED_MODEL)
    target: ClassVar[Format] = Format.TFLITE
    toolchain: ClassVar[str] = "keras"
    revision: ClassVar[int] = 1
    options: ClassVar[type[Options]] = TfliteFromKerasOptions
    preload: ClassVar[tuple[str, ...]] = (
        "edgepipe.runners.keras_environment",
        "tensorflow",
    )

    def run(self, artifact: Artifact, options: Any, workdir: Path) -> Product:
        def configure(converter: Any) -> None:
            ops = tensorflow().lite.OpsSet
            if options.select_tf_ops:
                converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS, ops.SELECT_TF_OPS]

        path, signature = convert(artifact, workdir, configure, options.unroll)
        return Product(path, signature)


def convert(
    artifact: Artifact, workdir: Path, configure: Callable[[Any], None], unroll: bool
) -> tuple[Path, Signature]:
    """The file and its ends; `configure` sets what is to be set on the converter."""
    static = open_static(artifact, unroll)
    folder = workdir / "saved_model"
    _save(static, folder)
    content = bytearray(_convert(folder, configure))
    shutil.rmtree(folder)
    signature = _put_in_order(content, static.signature)
    path = workdir / "model.tflite"
    path.write_bytes(content)
    return path, signature


def _save(static: StaticFunction, folder: Path) -> None:
    """Write the traced function as a SavedModel whose signature has the ports' names."""
    tf = tensorflow()
    ends = static.signature
    specs = [tensor_spec(port, name) for port, name in keyed(ends.inputs)]
    keys = [key for _, key in keyed(ends.outputs)]

    def named(*tensors: Any) -> dict[str, Any]:
        return dict(zip(keys, static.concrete(*tensors), strict=True))

    holder = tf.Module()
    holder.model = static.model.holder
    holder.kept = list(static.concrete.graph.variables)
    function = tf.function(named, autograph=False).get_concrete_function(*specs)
    tf.saved_model.save(holder, str(folder), signatures={"serving_default": function})


def keyed(ports: Sequence[Port]) -> list[tuple[Port, str]]:
    """Each port with its key in the signature of the file: its name, where TensorFlow allows it."""
    return list(zip(ports, op_names([port.name for port in ports]), strict=True))


def _convert(folder: Path, configure: Callable[[Any], None]) -> bytes:
    converter = tensorflow().lite.TFLiteConverter.from_saved_model(str(folder))
    configure(converter)
    try:
        content: bytes = converter.convert()
    except Exception as error:
        raise _failed(error) from error
    return content


def _failed(error: Exception) -> StageFailed:
    text = str(error)
    needs = sorted(set(NEEDS_FLEX.findall(text)))
    if needs:
        return StageFailed(
            f"TFLite has no builtin operator for: {', '.join(needs)}",
            hint="the option select_tf_ops of tflite_from_keras keeps them as TensorFlow operators,"
            " which run only where the Flex runtime is.",
            ops=needs,
        )
    return StageFailed(f"TFLiteConverter raised {type(error).__name__}: {text[:1000]}")


def _put_in_order(content: bytearray, signature: Signature) -> Signature:
    """Order the file's ends as the model's, in place; the ports with their tensors' names."""
    schema = importlib.import_module("tensorflow.lite.python.schema_py_generated")
    model = schema.Model.GetRootAs(content, 0)
    graph, ends = model.Subgraphs(0), model.SignatureDefs(0)
    taken = {ends.Inputs(at).Name().decode(): ends.Inputs(at) for at in range(ends.InputsLength())}
    given = {
        ends.Outputs(at).Name().decode(): ends.Outputs(at) for at in range(ends.OutputsLength())
    }
    return Signature(
        _order(graph, graph.InputsAsNumpy(), taken, signature.inputs),
        _order(graph, graph.OutputsAsNumpy(), given, signature.outputs),
    )


def _order(
    graph: Any, places: Any, ends: Mapping[str, Any], ports: Sequence[Port]
) -> tuple[Port, ...]:
    indices = [ends[key].TensorIndex() for _, key in keyed(ports)]
    if sorted(indices) != sorted(places.tolist()):
        raise BrokenOutput(
            f"TFLiteConverter wrote the ends {sorted(places.tolist())}, expected {sorted(indices)}"
        )
    places[:] = indices
    names = [graph.Tensors(index).Name().decode() for index in indices]
    return tuple(
        replace(port, tensor="" if name == port.name else name)
        for port, name in zip(ports, names, strict=True)
    )
