"""One-operator models that quantize badly, and what rewrites make of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tflite_models import Maker, chain, floats, ints, layer_norm

from edgepipe.tflite.graph import Model, Tensor


@dataclass(frozen=True)
class Case:
    """`raw` is how the raw tool fails: part of its message, decibels that it stays below, or
    operators that it leaves in the file. `wanted` decibels after."""

    name: str
    build: Callable[[], Model]
    raw: str | float | set[str]
    wanted: float
    rewrites: tuple[str, ...]
    scales: set[str] = field(default_factory=set)
    """Conversions that may stay: MAXIMUM needs one scale for both operands."""


_RANKS = "must be the same as the tensor rank (1)"
_PADS = ints([[0, 0], [1, 1], [1, 1], [0, 0]])
_POOL = {
    "padding": "VALID", "stride_w": 2, "stride_h": 2, "filter_width": 3, "filter_height": 3,
}  # fmt: skip


def _x(*shape: int) -> Tensor:
    return Tensor("x", shape)


def _random(*shape: int) -> NDArray[np.float32]:
    return floats(np.random.default_rng(0).standard_normal(shape))


def _padding(value: float, relu: bool = False, pool: bool = True) -> Callable[[], Model]:
    steps: list[tuple[object, ...]] = [("RELU", (1, 8, 8, 4), [], {})] if relu else []
    steps.append(("PADV2", (1, 10, 10, 4), ["x", _PADS, floats([value])], {}))
    if pool:
        steps.append(("MAX_POOL_2D", (1, 4, 4, 4), [], _POOL))
    return lambda: chain(_x(1, 8, 8, 4), *steps)


def _one(
    name: str, operand: object = None, shape: tuple[int, ...] = (1, 16), **options: object
) -> Callable[[], Model]:
    operands = [] if operand is None else ["x", operand]
    return lambda: chain(_x(*shape), (name, shape, operands, options))


def _matmul() -> Model:
    return chain(_x(1, 6, 16), ("BATCH_MATMUL", (1, 6, 8), ["x", _random(16, 8)], {}))


def _matmul_batch() -> Model:
    return chain(_x(3, 6, 16), ("BATCH_MATMUL", (3, 6, 8), ["x", _random(3, 16, 8)], {}))


def _matmul_first() -> Model:
    return chain(_x(1, 6, 16), ("BATCH_MATMUL", (1, 8, 16), [_random(1, 8, 6), "x"], {}))


def _masked() -> Model:
    mask = floats([0] * 12 + [-3.4e38] * 4)
    return chain(
        _x(1, 6, 16), ("ADD", (1, 6, 16), ["x", mask], {}), ("SOFTMAX", (1, 6, 16), [], {"beta": 1})
    )


def _softmax() -> Model:
    m, last = Maker(1, 6, 16), ints([-1])
    highest = m.op("REDUCE_MAX", m.x, last, shape=(1, 6, 1), keep_dims=True)
    exp = m.op("EXP", m.op("SUB", m.x, highest))
    m.op("DIV", exp, m.op("SUM", exp, last, shape=(1, 6, 1), keep_dims=True))
    return m.model()


def _gelu_tanh() -> Model:
    m = Maker(1, 16)
    cube = m.op("MUL", m.op("MUL", m.x, m.x), m.x)
    inner = m.op("ADD", m.x, m.op("MUL", cube, np.float32(0.044715)))
    tanh = m.op("TANH", m.op("MUL", inner, np.float32(0.7978845608)))
    m.op("MUL", m.op("MUL", m.x, np.float32(0.5)), m.op("ADD", tanh, np.float32(1)))
    return m.model()


def _gelu_erf() -> Model:
    """erf by the polynomial 7.1.26 of Abramowitz and Stegun, as onnx2tf writes it."""
    m, one = Maker(1, 16), np.float32(1)
    z = m.op("MUL", m.x, np.float32(0.5**0.5))
    a = m.op("ABS", z)
    t = m.op("DIV", one, m.op("ADD", m.op("MUL", a, np.float32(0.3275911)), one))
    p = m.op("MUL", t, np.float32(1.061405429))
    for term in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p = m.op("MUL", m.op("ADD", p, np.float32(term)), t)
    rest = m.op("MUL", p, m.op("EXP", m.op("NEG", m.op("MUL", a, a))))
    erf = m.op("MUL", m.op("SIGN", z), m.op("SUB", one, rest))
    m.op("MUL", m.op("MUL", m.x, np.float32(0.5)), m.op("ADD", erf, one))
    return m.model()


def _hard_swish() -> Model:
    m = Maker(1, 16)
    gate = m.op("RELU_0_TO_1", m.op("ADD", m.op("MUL", m.x, np.float32(1 / 6)), np.float32(0.5)))
    m.op("MUL", gate, m.x)
    return m.model()


def _relu6() -> Model:
    m = Maker(1, 16)
    m.op("MINIMUM", m.op("MAXIMUM", m.x, np.float32(0)), np.float32(6))
    return m.model()


def _neutral() -> Model:
    m = Maker(1, 16)
    first = m.op("SOFTMAX", m.x, beta=0.3)
    m.op("SOFTMAX", m.op("ADD", m.op("MUL", first, np.float32(1)), np.float32(0)), beta=1.0)
    return m.model()


def _turned() -> Model:
    m = Maker(1, 4, 6, 3)
    turned = m.op("TRANSPOSE", m.x, ints([0, 3, 1, 2]), shape=(1, 3, 4, 6))
    m.op("TRANSPOSE", m.op("TANH", turned), ints([0, 2, 3, 1]), shape=(1, 4, 6, 3))
    return m.model()


def _open_batch() -> Model:
    m = Maker(1, 4, 6)
    m.x.signature = (-1, 4, 6)
    shape = m.op("SHAPE", m.x, shape=(3,), out_type="int32")
    ones = [ints([number]) for number in (0, 1, 1)]
    batch = m.op("STRIDED_SLICE", shape, *ones, shape=(), shrink_axis_mask=1)
    batch.shape = ()
    wanted = m.op("PACK", batch, np.int32(24), shape=(2,), values_count=2)
    for tensor in (shape, batch, wanted):
        tensor.dtype = "int32"
    flat = m.op("RESHAPE", m.op("TANH", m.x), wanted, shape=(1, 24))
    flat.signature = m.ops[-2].outputs[0].signature = ()
    m.ops[-2].outputs[0].signature, flat.signature = (-1, 4, 6), (-1, 24)
    return m.model()


CASES = [
    Case("pad_channel", _padding(-1.5, pool=False), _RANKS, 40, ("padding",)),
    Case("pad_pool", _padding(-np.inf), _RANKS, 40, ("padding",)),
    Case("pad_relu_pool", _padding(-3.4e38, relu=True), _RANKS, 40, ("padding",)),
    Case("maximum", _one("MAXIMUM", _random(4), (1, 8, 8, 4)), _RANKS, 40, ("channel_constants",),
         {"QUANTIZE"}),
    Case("division", _one("DIV", floats([1e-4] + [1] * 15)), "!= zero_point", 40,
         ("division",)),
    Case("matmul", _matmul, 1.0, 35, ("constant_matmul",)),
    Case("matmul_batch", _matmul_batch, 1.0, 35, ("constant_matmul",), {"QUANTIZE"}),
    Case("matmul_first", _matmul_first, 1.0, 35, ("constant_matmul",)),
    Case("mask", _masked, "the process died", 25, ("masks",)),
    Case("softmax", _softmax, {"REDUCE_MAX", "EXP"}, 35, ("softmax",)),
    Case("gelu_tanh", _gelu_tanh, {"TANH"}, 40, ("activations",)),
    Case("gelu_erf", _gelu_erf, {"EXP", "DEQUANTIZE"}, 40, ("activations",)),
    Case("hard_swish", _hard_swish, {"DEQUANTIZE"}, 40, ("activations",)),
    Case("relu6", _relu6, {"DEQUANTIZE"}, 40, ("activations", "integer_forms")),
    Case("norm_torch", lambda: layer_norm("torch"), 37.8, 37.8, ("normalization",)),
    Case("norm_keras", lambda: layer_norm("keras"), 35.0, 36.5, ("normalization", "affine")),
    Case("norm_onnx", lambda: layer_norm("onnx"), 36.5, 36.5, ("affine",)),
    Case("neutral", _neutral, {"ADD", "MUL"}, 30, ("neutral",)),
    Case("transposes", _turned, {"TRANSPOSE"}, 40, ("transposes",)),
    Case("open_batch", _open_batch, {"SHAPE", "STRIDED_SLICE", "PACK"}, 40, ("static_shapes",)),
    Case("neg", _one("NEG"), {"NEG"}, 40, ("integer_forms",)),
    Case("abs", _one("ABS"), {"ABS"}, 40, ("integer_forms",), {"QUANTIZE"}),
    Case("power", _one("POW", np.float32(2)), {"POW"}, 40, ("integer_forms",)),
    Case("minimum", _one("MINIMUM", np.float32(1)), {"MINIMUM"}, 40, ("integer_forms",),
         {"QUANTIZE"}),
    Case("leaky_relu", _one("LEAKY_RELU", alpha=0.2), {"LEAKY_RELU"}, 40, ("integer_forms",),
         {"QUANTIZE"}),
    Case("prelu", _one("PRELU", np.abs(_random(16))), {"PRELU"}, 40, ("integer_forms",)),
    Case("relu_0_to_1", _one("RELU_0_TO_1"), {"RELU_0_TO_1"}, 40, ("integer_forms",)),
    Case("elementwise_relu6", _one("RELU6"), {"RELU6"}, 40, ("integer_forms",)),
]  # fmt: skip
