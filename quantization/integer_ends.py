"""Gives outputs the integers that were asked for where the quantizer leaves them in float.

ai-edge-quantizer 0.10 puts a DEQUANTIZE before an output that an operator reads, too (a network
that gives its scores and the largest of them), whatever was asked for the outputs.
"""

from __future__ import annotations

from pathlib import Path

from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Graph, Model, Op, Quantization, Tensor

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


def mend(path: Path, wanted: str) -> int:
    """Change the file; how many outputs have integers now and had none."""
    if wanted not in LIMITS:
        return 0
    model = loading.load(path)
    changed = 0
    for output in list(model.main.outputs):
        maker = model.main.producer(output)
        stored = maker.inputs[0] if maker is not None and maker.name == "DEQUANTIZE" else None
        if maker is None or stored is None or stored.quantization is None:
            continue
        if len(stored.quantization.scales) != 1 or stored.dtype not in LIMITS:
            continue
        if stored.dtype == wanted and stored in model.main.outputs:
            continue
        given = stored if stored.dtype == wanted else _turned(model.main, maker, stored, wanted)
        _give(model, output, given)
        if not model.main.consumers(output):
            edit.remove(model.main, [maker])
        changed += 1
    if changed:
        edit.prune(model.main)
        saving.save(model, path)
    return changed


def _give(model: Model, output: Tensor, given: Tensor) -> None:
    """As an output only: an operator that has no integer form goes on reading the float one."""
    graph = model.main
    graph.outputs = [given if tensor is output else tensor for tensor in graph.outputs]
    for signature in model.signatures:
        if signature.graph is graph:
            signature.outputs = [
                (name, given if tensor is output else tensor) for name, tensor in signature.outputs
            ]


def _turned(graph: Graph, before: Op, stored: Tensor, wanted: str) -> Tensor:
    """The same numbers in another type of integers."""
    made = stored.like(stored.name)
    stored.name = f"{stored.name}_{stored.dtype}"
    made.dtype, made.quantization = wanted, _range_in(stored, wanted)
    edit.insert(graph, [Op.make("QUANTIZE", [stored], [made])], before)
    return made


def _range_in(stored: Tensor, wanted: str) -> Quantization:
    assert stored.quantization is not None
    (scale,), (zero,) = stored.quantization.scales, stored.quantization.zero_points
    least, most = LIMITS[stored.dtype]
    if wanted == "int16":  # Its kernels want zero at zero.
        return Quantization((scale * max(most - zero, zero - least) / 32767,), (0,))
    if stored.dtype == "int16":
        return Quantization((scale * 32768 / 128,), (0 if wanted == "int8" else 128,))
    return Quantization((scale,), (zero + LIMITS[wanted][0] - least,))
