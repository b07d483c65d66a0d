"""Drops the QUANTIZE and DEQUANTIZE of floats at the ends: what goes in and out is 8-bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.targets.edgetpu.legalise.steps import LIMITS, scaled
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor

Feeds = Mapping[str, NDArray[Any]]


def drop(model: Model) -> list[Tensor]:
    """The ends that are integers now; a float QUANTIZE would run on the CPU."""
    graph = model.main
    found = [_input(model, graph, tensor) for tensor in list(graph.inputs)]
    found += [_output(model, graph, tensor) for tensor in list(graph.outputs)]
    changed = [one for one in found if one is not None]
    if changed:
        edit.prune(graph)
    return changed


def _input(model: Model, graph: Graph, tensor: Tensor) -> Tensor | None:
    readers = graph.consumers(tensor)
    made = readers[0].outputs[0] if readers else None
    if made is None or not _becomes(tensor, made) or tensor in graph.outputs:
        return None
    if any(one.name != "QUANTIZE" or not _alike(one, made) for one in readers):
        return None
    for op in readers:
        if op.outputs[0] is not made:
            edit.replace(model, graph, op.outputs[0], made)
    edit.remove(graph, [op for op in readers if op.outputs[0] is not made])
    graph.ops = [op for op in graph.ops if op is not readers[0]]
    graph.inputs = [made if one is tensor else one for one in graph.inputs]
    for signature in model.signatures:
        if signature.graph is graph:
            signature.inputs = [
                (name, made if one is tensor else one) for name, one in signature.inputs
            ]
    made.name, tensor.name = tensor.name, made.name
    made.signature = tensor.signature
    return made


def _output(model: Model, graph: Graph, tensor: Tensor) -> Tensor | None:
    op = graph.producer(tensor)
    source = op.inputs[0] if op is not None and op.name == "DEQUANTIZE" else None
    if op is None or source is None or not _becomes(tensor, source):
        return None
    if graph.consumers(tensor) or source in graph.outputs or source in graph.inputs:
        return None
    edit.replace(model, graph, tensor, source)
    edit.remove(graph, [op])
    return source


def _becomes(real: Tensor, stored: Tensor) -> bool:
    return real.dtype == "float32" and stored.dtype in LIMITS and scaled(stored)


def _alike(op: Op, made: Tensor) -> bool:
    other = op.outputs[0]
    return other.dtype == made.dtype and other.quantization == made.quantization


def reals(tensors: Sequence[Tensor], feeds: Feeds) -> dict[str, NDArray[Any]]:
    """What integers that are fed now were as floats before."""
    return {one.name: real(one, feeds[one.name]) for one in tensors}


def real(tensor: Tensor, values: NDArray[Any]) -> NDArray[Any]:
    """The numbers that stored values stand for, as DEQUANTIZE gives them."""
    known = tensor.quantization
    if tensor.dtype not in LIMITS or known is None or not known.scales:
        return values
    scale, zero = known.spread(values.ndim)
    found: NDArray[Any] = (scale * (values.astype(np.int64) - zero)).astype(np.float32)
    return found
