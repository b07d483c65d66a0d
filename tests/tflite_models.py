"""Small TFLite models made with the graph library, for tests of what reads and changes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        given = [last if isinstance(one, str) else constant(f"c{number}_{i}", one)
                 for i, one in enumerate(operands)]  # fmt: skip
        if not any(isinstance(one, str) for one in operands):
            given.insert(0, last)
        made = Tensor(f"t{number}", tuple(shape))
        ops.append(Op.make(name, given, [made], **options))
        last = made
    return model_of(ops, [source], [last])


def ints(values: Any) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def floats(values: Any) -> NDArray[np.float32]:
    return np.array(values, np.float32)


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


class Maker:
    """Builds a model an operator at a time; shapes are those of the first operand if not given."""

    def __init__(self, *shape: int) -> None:
        self.x = Tensor("x", shape)
        self.ops: list[Op] = []

    def op(self, name: str, *operands: Any, shape: Sequence[int] = (), **options: Any) -> Tensor:
        number = len(self.ops)
        tensors = [
            one if isinstance(one, Tensor) else constant(f"c{number}_{i}", one)
            for i, one in enumerate(operands)
        ]
        first = next(one for one in tensors if not one.is_constant)
        made = Tensor(f"t{number}", tuple(shape) or first.shape)
        self.ops.append(Op.make(name, tensors, [made], **options))
        return made

    def model(self, *outputs: Tensor) -> Model:
        return model_of(self.ops, [self.x], outputs or self.ops[-1].outputs)


def layer_norm(form: str) -> Model:
    """Over 32 channels, as litert-torch, Keras or ONNX say it, with a dense layer behind."""
    m = Maker(1, 12, 32)
    random = np.random.default_rng(1)
    flat, wide = (1, 12), (1, 12, 1)
    gain, shift = random.uniform(0.2, 4, 32), random.standard_normal(32)
    away = m.op("ADD", m.x, np.float32(6.0))  # a mean far from zero, as residuals have
    last = ints([2])
    if form == "torch":
        mean = m.op("MEAN", away, last, shape=flat)
        centre = m.op("RESHAPE", mean, ints(wide), shape=wide)
    else:
        centre = m.op("MEAN", away, last, shape=wide, keep_dims=True)
    square = m.op("SQUARED_DIFFERENCE", away, centre)
    keep = form != "torch"
    variance = m.op("MEAN", square, last, shape=wide if keep else flat, keep_dims=keep)
    root = m.op("RSQRT", m.op("ADD", variance, np.float32(1e-6)))
    if form == "torch":
        back = m.op("SUB", np.float32(0), m.op("MUL", root, mean))
        scaled = m.op("MUL", away, m.op("RESHAPE", root, ints(wide), shape=wide))
        y = m.op("ADD", scaled, m.op("RESHAPE", back, ints(wide), shape=wide))
    elif form == "keras":
        factor = m.op("MUL", root, np.float32(gain), shape=(1, 12, 32))
        back = m.op("SUB", np.float32(shift), m.op("MUL", centre, factor, shape=(1, 12, 32)),
                    shape=(1, 12, 32))  # fmt: skip
        y = m.op("ADD", m.op("MUL", away, factor), back)
    else:
        y = m.op("MUL", m.op("SUB", away, centre), root)
        y = m.op("ADD", m.op("MUL", y, np.float32(gain)), np.float32(shift))
    weights = np.float32(random.standard_normal((8, 32)))
    m.op("FULLY_CONNECTED", y, weights, np.zeros(8, np.float32), shape=(1, 12, 8),
         keep_num_dims=True)  # fmt: skip
    return m.model()
