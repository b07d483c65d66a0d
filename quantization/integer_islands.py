"""Closes islands of float: DEQUANTIZE, an operator with an int8 kernel, QUANTIZE.

ai-edge-quantizer 0.10 knows some fifty operators and leaves the others in float, though LiteRT
has int8 kernels for more. What those take and give is already known in integers.
"""

from __future__ import annotations

from pathlib import Path

from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Graph, Model, Op, Quantization, Tensor

MOVING = {
    "REVERSE_V2", "TILE", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "SQUEEZE",
    "EXPAND_DIMS", "REDUCE_MAX", "SPLIT", "SPLIT_V",
}  # fmt: skip
"""They give stored values as they take them, so both sides have one scale."""
OWN_SCALE = {"EXP", "LOG", "ELU", "RELU6", "RELU", "RELU_N1_TO_1", "LEAKY_RELU"}
"""Their kernels bring values from one scale to another."""
CHOOSING = {"ARG_MAX", "ARG_MIN"}
"""They give places, which are the same on any scale."""


def close(path: Path) -> int:
    """Change the file; how many operators were left in float and no longer are."""
    model = loading.load(path)
    closed = sum(_close(model, graph, op) for graph in model.graphs for op in list(graph.ops))
    if closed:
        for graph in model.graphs:
            edit.sort(graph)
            edit.prune(graph)
        saving.save(model, path)
    return closed


def _close(model: Model, graph: Graph, op: Op) -> bool:
    if op.name == "CAST":
        return _cast_to_integers(graph, op)
    if op.name not in MOVING | OWN_SCALE | CHOOSING:
        return False
    place = 1 if op.name == "SPLIT" else 0
    if _mend_unread(graph, op, place):
        return True
    stored = _dequantized(graph, op.inputs[place])
    if stored is None:
        return False
    if op.name in CHOOSING:
        op.inputs[place] = stored
        return True
    readers = [reader for result in op.outputs for reader in graph.consumers(result)]
    if not readers or any(reader.name != "QUANTIZE" for reader in readers):
        return False
    given = stored if op.name in MOVING else readers[0].outputs[0]
    if given.dtype != "int8" or any(result in graph.outputs for result in op.outputs):
        return False
    op.inputs[place] = stored
    for result in op.outputs:
        result.dtype, result.quantization = "int8", given.quantization
    for reader in readers:
        made, wanted = reader.inputs[0], reader.outputs[0]
        if made is not None and _same_scale(made, wanted) and wanted not in graph.outputs:
            edit.replace(model, graph, wanted, made)
            edit.remove(graph, [reader])
    return True


def _cast_to_integers(graph: Graph, op: Op) -> bool:
    """Truths as the numbers 0 and 1 in int8: what is quantized next only gives them its scale."""
    given, result = op.inputs[0], op.outputs[0]
    readers = graph.consumers(result)
    if given is None or given.dtype != "bool" or result.dtype != "float32":
        return False
    if not readers or result in graph.outputs or any(one.name != "QUANTIZE" for one in readers):
        return False
    result.dtype, result.quantization = "int8", Quantization((1.0,), (0,))
    op.options = None  # They repeat the types; the kernel reads those of the tensors.
    return True


def _mend_unread(graph: Graph, op: Op, place: int) -> bool:
    """Parts of a SPLIT that nobody reads, as in the first step of an unrolled LSTM, were never
    seen by the calibration and stay float beside int8 ones; LiteRT then refuses the file."""
    given = op.inputs[place]
    floats = [result for result in op.outputs if result.dtype == "float32"]
    if op.name not in MOVING or given is None or given.dtype != "int8" or not floats:
        return False
    if any(graph.consumers(result) or result in graph.outputs for result in floats):
        return False
    for result in floats:
        result.dtype, result.quantization = "int8", given.quantization
    return True


def _dequantized(graph: Graph, tensor: Tensor | None) -> Tensor | None:
    """The int8 tensor whose real values this one holds."""
    maker = None if tensor is None else graph.producer(tensor)
    if maker is None or maker.name != "DEQUANTIZE" or maker.inputs[0] is None:
        return None
    return maker.inputs[0] if maker.inputs[0].dtype == "int8" else None


def _same_scale(one: Tensor, other: Tensor) -> bool:
    a, b = one.quantization, other.quantization
    if a is None or b is None:
        return False
    return (a.scales, a.zero_points) == (b.scales, b.zero_points) and one.dtype == other.dtype
