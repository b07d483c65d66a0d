"""Whether a TFLite model is one that Vela has any use for: integers between its operators."""

from __future__ import annotations

from edgepipe.errors import UnsupportedModel
from edgepipe.targets.ethosu.compiled import is_compiled
from edgepipe.tflite.model import Operator, Subgraph, TfliteModel

INTEGERS = ("int8", "uint8", "int16")
_QUANTIZE = "make an int8 model of the float one: edgepipe convert MODEL --target tflite \
--precision int8 --calibration DATA."


def check(model: TfliteModel, name: str) -> None:
    """Refuse what was compiled already, and what computes in float all the way."""
    if is_compiled(model):
        raise UnsupportedModel(
            f"{name} is compiled for an Ethos-U already",
            hint="give the int8 model that it was made of, or use `edgepipe inspect`.",
        )
    ops = [(graph, op) for graph in model.subgraphs for op in graph.operators]
    if any(computes_in_integers(graph, op) for graph, op in ops):
        return
    kinds = "its weights are stored in fewer bits, but " if model.quantized() else ""
    raise UnsupportedModel(
        f"{name} is float inside: {kinds}none of its {len(ops)} operators works on int8 or int16,"
        " and an Ethos-U has nothing else",
        hint=_QUANTIZE,
    )


def float_ops(model: TfliteModel) -> list[tuple[str, str]]:
    """Name and first output of operators that work on floats: those go to the CPU."""
    return [
        (op.label, graph.tensors[op.outputs[0]].name if op.outputs else "")
        for graph in model.subgraphs
        for op in graph.operators
        if not computes_in_integers(graph, op)
    ]


def computes_in_integers(graph: Subgraph, op: Operator) -> bool:
    """All that flows through it is integers with a scale; shapes and indices don't count."""
    flowing = [
        graph.tensors[index]
        for index in (*op.inputs, *op.outputs)
        if index >= 0 and not graph.tensors[index].constant
    ]
    return not any(one.dtype.startswith(("float", "bfloat")) for one in flowing) and any(
        one.dtype in INTEGERS and one.quantization is not None for one in flowing
    )
