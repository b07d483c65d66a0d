"""Refuses what `edgetpu_compiler` can't make anything of, each with its own words."""

from __future__ import annotations

from pathlib import Path

from edgepipe.errors import ModelNotFound, UnsupportedModel
from edgepipe.targets.edgetpu import rules
from edgepipe.targets.edgetpu.compiled import is_compiled
from edgepipe.tflite import loading
from edgepipe.tflite.graph import Graph, Model, Op

_BORDER = ("QUANTIZE", "DEQUANTIZE", "CAST", "CUSTOM")
"""May touch floats in a model that is quantized all the same."""
_FLOATS = ("float16", "float32", "float64", "bfloat16")
_SHOWN = 3
CONVERT = "`edgepipe convert MODEL --target edgetpu --calibration DATA`"


def load(path: Path, allow_float: bool = False) -> Model:
    """Read a model and refuse it where compiling it can't end well."""
    if not path.is_file():
        raise ModelNotFound(f"no file {str(path)!r}", hint="give an int8 .tflite file.")
    model = loading.load(path)
    check(model, path.name, allow_float)
    return model


def check(model: Model, name: str, allow_float: bool = False) -> None:
    if any(is_compiled(graph) for graph in model.graphs):
        raise UnsupportedModel(
            f"{name} is compiled for the Edge TPU already",
            hint="give the int8 model that it was made of; `edgepipe inspect` shows what it holds.",
        )
    if len(model.graphs) > 1:
        raise UnsupportedModel(
            f"{name} has {len(model.graphs)} subgraphs, and the compiler takes one: conditions or"
            " loops are in it",
            hint="convert a model without control flow; recurrent Keras layers are unrolled by"
            f" {CONVERT}.",
        )
    graph = model.main
    _check_shapes(graph, name)
    _check_types(graph, name, allow_float)


def _check_shapes(graph: Graph, name: str) -> None:
    """A free batch counts as 1, as in real files; nothing else may be free."""
    tensors = [*graph.inputs, *(one for op in graph.ops for one in op.outputs)]
    open_ones = [one for one in tensors if -1 in one.signature[1:]]
    if open_ones:
        first = open_ones[0]
        sizes = "x".join("?" if size == -1 else str(size) for size in first.signature)
        raise UnsupportedModel(
            f"{name} has shapes that are open until it runs: {first.name!r} is {sizes}"
            f"{f', and {len(open_ones) - 1} more' if len(open_ones) > 1 else ''}",
            hint=f"fix them where it is made: {CONVERT} --input NAME=SHAPE.",
        )


def _check_types(graph: Graph, name: str, allow_float: bool) -> None:
    integers = any(one.dtype in rules.EIGHT_BITS for op in graph.ops for one in rules.data(op))
    if not integers:
        raise UnsupportedModel(
            f"{name} is a float model: nothing that it computes is int8 or uint8",
            hint=f"quantize it: {CONVERT} does all of it.",
        )
    floats = [op for op in graph.ops if op.name not in _BORDER and _computes_in_float(op)]
    if floats and not allow_float:
        shown = ", ".join(f"{op.label} {op.outputs[0].name!r}" for op in floats[:_SHOWN])
        raise UnsupportedModel(
            f"{name} is quantized by half: {len(floats)} of {len(graph.ops)} operators compute in"
            f" float ({shown}{', …' if len(floats) > _SHOWN else ''})",
            hint="quantize it in full, or compile it as it is with --allow-float: what is in float"
            " stays on the CPU.",
        )


def _computes_in_float(op: Op) -> bool:
    return any(one.dtype in _FLOATS for one in rules.data(op))
