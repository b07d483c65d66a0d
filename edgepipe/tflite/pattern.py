"""Questions that rewrites ask of a graph: single constants, only readers, known signs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.tflite.graph import Graph, Op, Tensor

FLOATS = ("float32", "float16")


def constant(tensor: Tensor | None) -> NDArray[Any] | None:
    """The values of a plain float constant."""
    if tensor is None or not tensor.is_constant or tensor.dtype not in FLOATS:
        return None
    if tensor.sparsity is not None or tensor.data is None or tensor.nbytes != len(tensor.data):
        return None
    return tensor.array()


def integers(tensor: Tensor | None) -> list[int] | None:
    """The values of an integer constant: axes, shapes, paddings."""
    if tensor is None or not tensor.is_constant or tensor.dtype not in ("int32", "int64"):
        return None
    found: list[int] = tensor.array().reshape(-1).tolist()
    return found


def scalar(tensor: Tensor | None) -> float | None:
    """The number that a float constant holds everywhere, None where it isn't one."""
    values = constant(tensor)
    if values is None or values.size == 0 or values.size > 65536:
        return None
    return float(values.flat[0]) if np.all(values == values.flat[0]) else None


def is_float(op: Op) -> bool:
    """All that it reads and makes is float32."""
    tensors = [*op.reads(), *op.outputs]
    return all(one.dtype == "float32" or one.dtype in ("int32", "int64") for one in tensors)


def split_operands(op: Op) -> tuple[Tensor, Tensor] | None:
    """The changing and the constant operand of a commutative operator."""
    if len(op.inputs) != 2:
        return None
    first, second = op.inputs
    if first is None or second is None or first.is_constant == second.is_constant:
        return None
    return (second, first) if first.is_constant else (first, second)


def only_reader(graph: Graph, tensor: Tensor) -> Op | None:
    """The single operator that reads a tensor which is no output of the graph."""
    readers = graph.consumers(tensor)
    return readers[0] if len(readers) == 1 and tensor not in graph.outputs else None


def never_negative(graph: Graph, tensor: Tensor | None) -> bool:
    """Whether what makes a tensor can give no number below zero."""
    op = graph.producer(tensor) if tensor is not None else None
    if op is None:
        return False
    if op.activation in ("RELU", "RELU6"):
        return True
    if op.name in ("RELU", "RELU6", "RELU_0_TO_1", "LOGISTIC", "SOFTMAX", "EXP", "ABS", "SQUARE"):
        return True
    if op.name in ("MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "TRANSPOSE", "CONCATENATION"):
        moved = op.inputs[:1] if op.name in ("RESHAPE", "TRANSPOSE") else op.inputs
        return all(never_negative(graph, one) for one in moved)
    return False
