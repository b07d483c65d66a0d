"""One operator of onnx2tf's graph brought from one layout to the other: axes, pads, constants."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

FIRST, LAST = "first", "last"
RANKS = (4, 5)
"""Ranks whose two layouts differ by a permutation that tells its direction; (0, 2, 1) doesn't."""

_UNARY = {
    "ABS", "CAST", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU",
    "LOG", "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT",
    "SIGN", "SIN", "SQRT", "SQUARE", "TANH",
}  # fmt: skip
_ELEMENTWISE = {
    "ADD", "DIV", "FLOOR_DIV", "MAXIMUM", "MINIMUM", "MUL", "POW", "PRELU", "SQUARED_DIFFERENCE",
    "SUB",
}  # fmt: skip
_REDUCE = {"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"}
_PAD = {"PAD", "PADV2", "MIRROR_PAD"}


def axes_to(layout: str, rank: int) -> tuple[int, ...]:
    """The permutation that leads to a layout from the other one."""
    if layout == LAST:
        return (0, *range(2, rank), 1)
    return (0, rank - 1, *range(1, rank - 1))


def moves_nothing(shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether a permutation leaves the order of the elements as it is."""
    long = [axis for axis in axes if shape[axis] > 1]
    return long == sorted(long)


def ends(ir: Any, op: Any) -> list[str]:
    """The tensors that share the operator's layout; none where it can't change it."""
    names = _data_ends(ir, op)
    if not names:
        return []
    ranks = {len(ir.tensors[name].shape) for name in names}
    quantized = any(ir.tensors[name].quantization is not None for name in names)
    return names if len(ranks) == 1 and ranks <= set(RANKS) and not quantized else []


def _data_ends(ir: Any, op: Any) -> list[str]:
    kind = op.op_type
    if kind in _UNARY:
        return [op.inputs[0], op.outputs[0]]
    if kind in _ELEMENTWISE or kind == "CONCATENATION":
        return _all_inputs(ir, op)
    if kind in _PAD and _is_constant(ir, op.inputs[1:]):
        return [op.inputs[0], op.outputs[0]]
    if kind == "SLICE" and _is_constant(ir, op.inputs[1:3]):
        return [op.inputs[0], op.outputs[0]]
    if kind == "SPLIT" and _is_constant(ir, op.inputs[:1]):
        return [op.inputs[1], *op.outputs]
    if kind in _REDUCE and _is_constant(ir, op.inputs[1:2]):
        return _reduce_ends(ir, op)
    return []


def _all_inputs(ir: Any, op: Any) -> list[str]:
    """Inputs of the output's rank; constants and single numbers adapt, others forbid it."""
    rank = len(ir.tensors[op.outputs[0]].shape)
    names = []
    for name in op.inputs:
        tensor = ir.tensors[name]
        if tensor.data is not None or math.prod(tensor.shape) == 1:
            if len(tensor.shape) > rank:
                return []
            if op.op_type == "CONCATENATION" and tensor.data is None:
                names.append(name)
        elif len(tensor.shape) != rank:
            return []
        else:
            names.append(name)
    return [*names, op.outputs[0]] if names else []


def _reduce_ends(ir: Any, op: Any) -> list[str]:
    if op.options.get("keepDims", False):
        return [op.inputs[0], op.outputs[0]]
    # Without the axes kept, the rest must be batch and channels, which no layout swaps.
    rank = len(ir.tensors[op.inputs[0]].shape)
    axes = {int(axis) % rank for axis in np.ravel(ir.tensors[op.inputs[1]].data)}
    for layout in (FIRST, LAST):
        if axes == set(_spatial(layout, rank)):
            return [op.inputs[0]]
    return []


def _spatial(layout: str, rank: int) -> range:
    return range(2, rank) if layout == FIRST else range(1, rank - 1)


def _is_constant(ir: Any, names: list[str]) -> bool:
    return bool(names) and all(ir.tensors[name].data is not None for name in names)


class Edits:
    """Changes to one graph; tensors that nothing uses any more go in `finish`."""

    def __init__(self, ir: Any) -> None:
        self.ir = ir
        self.shapes: dict[str, tuple[list[int], list[int] | None, Any]] = {}
        self.operator = type(ir.operators[0])

    def shape(self, name: str, like: str, present: str, layout: str) -> None:
        """Note that `name` holds what `like` does, in this layout."""
        tensor = self.ir.tensors[like]
        shape, signature = list(tensor.shape), tensor.shape_signature
        if layout != present:
            axes = axes_to(layout, len(shape))
            shape = [shape[axis] for axis in axes]
            if signature is not None:
                signature = [signature[axis] for axis in axes]
        self.shapes[name] = (shape, signature, tensor)

    def move(self, source: str, target: str, layout: str) -> Any:
        """A transpose to a layout, or the RESHAPE that does as well."""
        shape = self.shapes[target][0]
        axes = axes_to(layout, len(shape))
        if moves_nothing(tuple(self.shapes[source][0]), axes):
            sizes = self.constant(f"{target}_shape", np.asarray(shape, np.int32))
            return self.operator("RESHAPE", [source, sizes], [target], {"newShape": shape})
        permutation = self.constant(f"{target}_permutation", np.asarray(axes, np.int32))
        return self.operator("TRANSPOSE", [source, permutation], [target])

    def constant(self, name: str, data: Any) -> str:
        like = next(iter(self.ir.tensors.values()))
        size = list(data.shape)
        self.ir.tensors[name] = type(like)(name, "INT32", size, list(size), data)
        return name

    def flip(self, op: Any, rank: int, layout: str) -> None:
        """Bring an operator's constants and axes to a layout."""
        axes = axes_to(layout, rank)
        if op.op_type in _ELEMENTWISE or op.op_type == "CONCATENATION":
            op.inputs[:] = [self._permuted(name, axes, layout) for name in op.inputs]
        if op.op_type == "CONCATENATION":
            op.options = {**op.options, "axis": axes.index(int(op.options["axis"]) % rank)}
        elif op.op_type in _PAD:
            op.inputs[1] = self._rows(op.inputs[1], axes, layout)
        elif op.op_type == "SLICE":
            op.inputs[1:3] = [self._rows(name, axes, layout) for name in op.inputs[1:3]]
        elif op.op_type == "SPLIT":
            op.inputs[0] = self._axes(op.inputs[0], axes, layout)
        elif op.op_type in _REDUCE:
            op.inputs[1] = self._axes(op.inputs[1], axes, layout)

    def _permuted(self, name: str, axes: tuple[int, ...], layout: str) -> str:
        tensor = self.ir.tensors.get(name)
        if tensor is None or tensor.data is None or math.prod(tensor.shape) == 1:
            return name
        data = np.asarray(tensor.data)
        data = data.reshape((1,) * (len(axes) - data.ndim) + data.shape).transpose(axes)
        return self._copy(name, layout, np.ascontiguousarray(data))

    def _rows(self, name: str, axes: tuple[int, ...], layout: str) -> str:
        return self._copy(name, layout, np.asarray(self.ir.tensors[name].data)[list(axes)])

    def _axes(self, name: str, axes: tuple[int, ...], layout: str) -> str:
        data = np.asarray(self.ir.tensors[name].data)
        mapped = [axes.index(int(axis) % len(axes)) for axis in data.ravel()]
        return self._copy(name, layout, np.asarray(mapped, data.dtype).reshape(data.shape))

    def _copy(self, name: str, layout: str, data: Any) -> str:
        """A constant of its own for the flipped operator: others may read the old one."""
        fresh = f"{name}_channels_{layout}_{data.ndim}"
        tensor = copy.copy(self.ir.tensors[name])
        tensor.name, tensor.data, tensor.shape = fresh, data, list(data.shape)
        tensor.shape_signature = list(data.shape)
        self.ir.tensors[fresh] = tensor
        return fresh

    def finish(self) -> None:
        """Give every tensor its shape and drop those that nothing uses."""
        for name, (shape, signature, like) in self.shapes.items():
            tensor = copy.copy(like)
            tensor.name, tensor.shape, tensor.shape_signature = name, shape, signature
            self.ir.tensors[name] = tensor
        used = {*self.ir.inputs, *self.ir.outputs}
        for op in self.ir.operators:
            used.update(op.inputs)
            used.update(op.outputs)
        for name in [name for name in self.ir.tensors if name not in used]:
            del self.ir.tensors[name]
