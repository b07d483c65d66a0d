"""Small TFLite models made with the graph library, for tests of what reads and changes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgepipe.tflite.graph import Graph, Model, Op, Quantization, Signature, Tensor


def model_of(ops: Sequence[Op], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Model:
    graph = Graph("main", [], list(ops), list(inputs), list(outputs))
    ends = [[(tensor.name, tensor) for tensor in side] for side in (inputs, outputs)]
    return Model([graph], [Signature("serving_default", graph, ends[0], ends[1])])


def chain(source: Tensor, *steps: tuple[Any, ...]) -> Model:
    """A model of operators in a row. A step: name, shape of the output, further operands, options.

    The operand "x" stands for what the step before gave; without it that one comes first.
    """
    ops, last = [], source
    for number, (name, shape, operands, options) in enumerate(steps):
        given = [last if one == "x" else constant(f"c{number}_{i}", one)
                 for i, one in enumerate(operands)]  # fmt: skip
        if not any(isinstance(one, str) for one in operands):
            given.insert(0, last)
        made = Tensor(f"t{number}", tuple(shape))
        ops.append(Op.make(name, given, [made], **options))
        last = made
    return model_of(ops, [source], [last])


def constant(name: str, values: Any) -> Tensor:
    array = np.asarray(values)
    kind = "int32" if array.dtype.kind == "i" and array.dtype.itemsize == 8 else str(array.dtype)
    return Tensor.constant(name, array, "float32" if kind == "float64" else kind)


def dense() -> Model:
    """A dense layer with a bias, then int8."""
    weights = np.arange(8, dtype=np.float32).reshape(2, 4)
    x, y = Tensor("x", (1, 4)), Tensor("y", (1, 2), signature=(-1, 2))
    q = Tensor("q", (1, 2), "int8", quantization=Quantization((0.5,), (-3,)))
    layer = Op.make(
        "FULLY_CONNECTED", [x, constant("w", weights), constant("b", [1.0, 2.0])], [y],
        fused_activation_function="RELU6",
    )  # fmt: skip
    made = model_of([layer, Op.make("QUANTIZE", [y], [q])], [x], [q])
    made.description = "a test"
    made.metadata = [("min_runtime_version", b"1.5.0\0")]
    return made


def conv(per_channel: bool = True) -> Model:
    """An int8 convolution as a quantizer writes it."""
    scales = (0.01, 0.02, 0.03) if per_channel else (0.01,)
    weights = Tensor.constant(
        "w", np.arange(3 * 2 * 2 * 4).reshape(3, 2, 2, 4) % 100 - 50, "int8",
        Quantization(scales, (0,) * len(scales), axis=0),
    )  # fmt: skip
    bias = Tensor.constant(
        "b", np.arange(3), "int32", Quantization(tuple(0.5 * s for s in scales), (0,) * len(scales))
    )
    x = Tensor("x", (1, 5, 5, 4), "int8", quantization=Quantization((0.5,), (-1,)))
    y = Tensor("y", (1, 4, 4, 3), "int8", quantization=Quantization((0.7,), (3,)))
    op = Op.make("CONV_2D", [x, weights, bias], [y], padding="VALID", stride_w=1, stride_h=1)
    return model_of([op], [x], [y])
