"""Closes islands of float: DEQUANTIZE, an operator with an int8 kernel, QUANTIZE.

ai-edge-quantizer 0.10 knows some fifty operators and leaves the others in float, though LiteRT
has int8 kernels for more. What those take and give is known in integers from their neighbours, or
from the calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

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
COMPARING = {"LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL"}
"""They bring both sides to one scale."""


Range = tuple[float, float]


def close(path: Path, ranges: Mapping[str, Range] = MappingProxyType({})) -> int:
    """Change the file; how many operators were left in float and no longer are."""
    model = loading.load(path)
    closed = sum(
        _close(model, graph, op, ranges) for graph in model.graphs for op in list(graph.ops)
    )
    if closed:
        for graph in model.graphs:
            edit.sort(graph)
            edit.prune(graph)
        saving.save(model, path)
    return closed


def _close(model: Model, graph: Graph, op: Op, ranges: Mapping[str, Range]) -> bool:
    if op.name == "CAST":
        return _cast_to_integers(graph, op)
    if op.name in COMPARING:
        return _compare(graph, op)
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
        return _open_behind(graph, op, place, stored, ranges)
    given = stored if op.name in MOVING else readers[0].outputs[0]
    if given.dtype != "int8" or any(result in graph.outputs for result in op.outputs):
        return _open_behind(graph, op, place, stored, ranges)
    op.inputs[place] = stored
    for result in op.outputs:
        result.dtype, result.quantization = "int8", given.quantization
    for reader in readers:
        made, wanted = reader.inputs[0], reader.outputs[0]
        if made is not None and _same_scale(made, wanted) and wanted not in graph.outputs:
            edit.replace(model, graph, wanted, made)
            edit.remove(graph, [reader])
    return True


def _open_behind(
    graph: Graph, op: Op, place: int, stored: Tensor, ranges: Mapping[str, Range]
) -> bool:
    """The operator in integers with a DEQUANTIZE behind it, which the next one may close."""
    scales = [
        stored.quantization if op.name in MOVING else _scale_of(ranges.get(result.name))
        for result in op.outputs
    ]
    if not all(result.dtype == "float32" for result in op.outputs) or None in scales:
        return False
    op.inputs[place] = stored
    for number, (result, scale) in enumerate(zip(list(op.outputs), scales, strict=True)):
        made = result.like(f"{result.name}_stored")
        made.dtype, made.quantization = "int8", scale
        op.outputs[number] = made
        graph.ops.append(Op.make("DEQUANTIZE", [made], [result]))
    return True


def _scale_of(seen: Range | None) -> Quantization | None:
    if seen is None:
        return None
    low, high = min(seen[0], 0.0), max(seen[1], 0.0)
    scale = max((high - low) / 255, 1e-8)
    return Quantization((scale,), (round(-128 - low / scale),))


def _compare(graph: Graph, op: Op) -> bool:
    stored = [_dequantized(graph, tensor) for tensor in op.inputs]
    if None in stored:
        return False
    op.inputs = stored
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
