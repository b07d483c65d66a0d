"""BATCH_MATMUL by constant weights as FULLY_CONNECTED, in onnx2tf's graph before writing.

Edge chips have the second and not the first, and LiteRT 2.3 gives zeros for an int8
BATCH_MATMUL whose weights are quantized per channel.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

KEEPS_RANK_SINCE = 5
"""Version of FULLY_CONNECTED that has `keep_num_dims` (LiteRT's op version table)."""


def use_fully_connected(ir: Any) -> int:
    """Rewrite all that can be; the number of them."""
    reads = Counter(name for op in ir.operators for name in op.inputs)
    reads.update(ir.outputs)
    count = 0
    for op in list(ir.operators):
        weights = _weights(ir, op)
        if weights is None:
            continue
        bias, activation = _take_bias(ir, op, weights.shape[0], reads)
        _rewrite(ir, op, weights, bias, activation)
        count += 1
    return count


def _weights(ir: Any, op: Any) -> Any:
    """The second factor as (outputs, inputs), None where this is no dense layer."""
    if op.op_type != "BATCH_MATMUL" or op.options.get("adjX", False):
        return None
    left, right = (ir.tensors[name] for name in op.inputs[:2])
    if right.data is None or left.data is not None or str(right.dtype) != "FLOAT32":
        return None
    data = np.asarray(right.data)
    if data.ndim < 2 or math.prod(data.shape[:-2]) != 1 or data.ndim > len(left.shape):
        return None
    matrix = data.reshape(data.shape[-2:])
    return np.ascontiguousarray(matrix if op.options.get("adjY", False) else matrix.T)


def _take_bias(ir: Any, op: Any, width: int, reads: Counter[str]) -> tuple[Any, str]:
    """A constant that is added behind, with the activation there; that ADD goes."""
    result = op.outputs[0]
    readers = [one for one in ir.operators if result in one.inputs]
    if reads[result] == 1 and len(readers) == 1 and readers[0].op_type == "ADD":
        add = readers[0]
        other = next(name for name in add.inputs if name != result)
        data = ir.tensors[other].data
        same_shape = list(ir.tensors[add.outputs[0]].shape) == list(ir.tensors[result].shape)
        if data is not None and same_shape and _is_row(np.asarray(data), width):
            op.outputs[0] = add.outputs[0]
            ir.operators.remove(add)
            activation = str(add.options.get("fusedActivationFunction", "NONE"))
            return np.asarray(data).reshape(width), activation
    return np.zeros(width, np.float32), "NONE"


def _is_row(data: Any, width: int) -> bool:
    return bool(data.ndim > 0 and data.size == width and data.shape[-1] == width)


def _rewrite(ir: Any, op: Any, weights: Any, bias: Any, activation: str) -> None:
    keeps = len(ir.tensors[op.inputs[0]].shape) > 2
    op.inputs = [
        op.inputs[0],
        _constant(ir, f"{op.outputs[0]}_weights", weights),
        _constant(ir, f"{op.outputs[0]}_bias", bias),
    ]
    op.op_type, op.version = "FULLY_CONNECTED", KEEPS_RANK_SINCE if keeps else 1
    op.options = {
        "fusedActivationFunction": activation,
        "weightsFormat": "DEFAULT",
        "keepNumDims": keeps,
        "asymmetricQuantizeInputs": False,
    }


def _constant(ir: Any, name: str, data: Any) -> str:
    like = next(iter(ir.tensors.values()))
    size = list(data.shape)
    ir.tensors[name] = type(like)(name, "FLOAT32", size, list(size), data.astype(np.float32))
    return name
