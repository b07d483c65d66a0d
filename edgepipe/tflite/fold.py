"""Computes what depends on constants only, so that the file holds the result instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.errors import UnsupportedModel
from edgepipe.tflite.edit import prune
from edgepipe.tflite.graph import Graph, Op, Tensor

Values = NDArray[Any]

LARGEST = 1 << 20
"""Elements of a result that is kept: more than its operands would make the file grow."""

_KEEP_SCALE = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"}
"""Operators that move stored values, whatever they stand for."""


def fold(graph: Graph) -> int:
    """Fold all that can be, and drop what is no longer read; says how many operators went."""
    before = len(graph.ops)
    for op in list(graph.ops):
        if any(tensor in graph.outputs for tensor in op.outputs):
            continue  # some runtimes don't hand out a constant as a result
        values = value_of(op)
        if values is not None:
            tensor = op.outputs[0]
            shape = tensor.shape
            tensor.set(values)
            if tensor.shape != shape and tensor.elements == int(np.prod(shape)):
                tensor.set(values.reshape(shape))
            graph.ops.remove(op)
    prune(graph)
    return before - len(graph.ops)


def value_of(op: Op) -> Values | None:
    """What an operator gives, None where it isn't known before it runs, or isn't folded."""
    if len(op.outputs) != 1 or op.outputs[0].variable:
        return None
    if op.name == "SHAPE":
        return _shape(op)
    compute = _FOLDED.get(op.name)
    operands = list(op.reads())
    if compute is None or not operands or not all(one.is_constant for one in operands):
        return None
    if not _plain(op, operands):
        return None
    try:
        values = [one.array() for one in operands]
        largest = max(LARGEST, *(one.size for one in values))
        if _size(op, values) > largest:
            return None
        with np.errstate(all="ignore"):
            result = _activated(op, np.asarray(compute(op, values)))
    except (UnsupportedModel, ValueError, IndexError, TypeError, ZeroDivisionError):
        return None  # not well formed: the runtime is to say so
    if result.size > largest:
        return None
    return result.astype(op.outputs[0].dtype)


def _size(op: Op, values: list[Values]) -> float:
    """Elements of the result where a few operands can ask for any number of them."""
    if op.name in ("FILL", "BROADCAST_TO"):
        return float(np.prod(values[-1 if op.name == "BROADCAST_TO" else 0], dtype=float))
    if op.name == "TILE":
        return values[0].size * float(np.prod(values[1], dtype=float))
    if op.name == "RANGE":
        start, stop, step = (float(one.reshape(-1)[0]) for one in values)
        return (stop - start) / step
    return 0


def _plain(op: Op, operands: Sequence[Tensor]) -> bool:
    """Not quantized, or in a way that the operator leaves alone."""
    every = [*operands, *op.outputs]
    quantized = [one.quantization for one in every if one.quantization and one.quantization.scales]
    if op.name == "DEQUANTIZE":
        return operands[0].dtype == "float16"
    if not quantized:
        return True
    return op.name in _KEEP_SCALE and not any(one.per_channel for one in quantized)


def _shape(op: Op) -> Values | None:
    source = op.inputs[0]
    if source is None or source.dynamic:
        return None
    return np.asarray(source.shape, op.outputs[0].dtype)


def _activated(op: Op, values: Values) -> Values:
    bounds = {"RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}
    if op.activation == "NONE":
        return values
    low, high = bounds.get(op.activation, (None, None))
    if low is None:
        raise ValueError(op.activation)
    return np.clip(values, low, high)


def _sliced(op: Op, values: list[Values]) -> Values:
    source, begin, size = values
    ends = [None if n == -1 else b + n for b, n in zip(begin, size, strict=True)]
    return source[tuple(slice(int(b), e) for b, e in zip(begin, ends, strict=True))]


def _strided(op: Op, values: list[Values]) -> Values:
    source, begin, end, stride = values
    if op.option("ellipsis_mask") or op.option("new_axis_mask") or op.option("offset"):
        raise ValueError("not folded")
    picks: list[Any] = []
    for axis, (b, e, s) in enumerate(zip(begin, end, stride, strict=True)):
        bit = 1 << axis
        if op.option("shrink_axis_mask") & bit:
            picks.append(int(b))
            continue
        first = None if op.option("begin_mask") & bit else int(b)
        last = None if op.option("end_mask") & bit else int(e)
        picks.append(slice(first, last, int(s)))
    return np.asarray(source[tuple(picks)])


def _gathered(op: Op, values: list[Values]) -> Values:
    if op.option("batch_dims"):
        raise ValueError("not folded")
    return np.take(values[0], values[1], op.option("axis"))


def _divided(op: Op, values: list[Values]) -> Values:
    if values[0].dtype.kind in "iu":
        raise ValueError("not folded")  # rounds towards zero, and numpy doesn't
    return np.divide(values[0], values[1])


def _reduced(how: Callable[..., Any]) -> Callable[[Op, list[Values]], Values]:
    def reduce(op: Op, values: list[Values]) -> Values:
        axes = tuple(int(axis) for axis in values[1].reshape(-1))
        return np.asarray(how(values[0], axis=axes, keepdims=op.option("keep_dims")))

    return reduce


def _each(how: Callable[..., Any]) -> Callable[[Op, list[Values]], Values]:
    return lambda op, values: np.asarray(how(*values))


def _reshaped(op: Op, values: list[Values]) -> Values:
    return values[0].reshape(op.outputs[0].shape)


_FOLDED: dict[str, Callable[[Op, list[Values]], Values]] = {
    "RESHAPE": _reshaped,
    "SQUEEZE": _reshaped,
    "EXPAND_DIMS": _reshaped,
    "TRANSPOSE": lambda op, values: np.transpose(values[0], [int(axis) for axis in values[1]]),
    "CAST": lambda op, values: values[0].astype(op.outputs[0].dtype),
    "DEQUANTIZE": lambda op, values: values[0].astype(np.float32),
    "PACK": lambda op, values: np.stack(values, op.option("axis")),
    "CONCATENATION": lambda op, values: np.concatenate(values, op.option("axis")),
    "GATHER": _gathered,
    "SLICE": _sliced,
    "STRIDED_SLICE": _strided,
    "FILL": lambda op, values: np.full(values[0], values[1].reshape(-1)[0]),
    "BROADCAST_TO": lambda op, values: np.broadcast_to(values[0], values[1]),
    "TILE": lambda op, values: np.tile(values[0], values[1]),
    "RANGE": lambda op, values: np.arange(*(one.reshape(-1)[0] for one in values)),
    "ADD": _each(np.add),
    "SUB": _each(np.subtract),
    "MUL": _each(np.multiply),
    "DIV": _divided,
    "MAXIMUM": _each(np.maximum),
    "MINIMUM": _each(np.minimum),
    "NEG": _each(np.negative),
    "ABS": _each(np.abs),
    "SQUARE": _each(np.square),
    "SQRT": _each(np.sqrt),
    "RSQRT": lambda op, values: np.float32(1) / np.sqrt(values[0]),
    "EXP": _each(np.exp),
    "SUM": _reduced(np.sum),
    "MEAN": _reduced(np.mean),
    "REDUCE_PROD": _reduced(np.prod),
    "REDUCE_MAX": _reduced(np.max),
}
