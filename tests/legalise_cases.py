"""One-operator models in int8 that the Edge TPU compiler doesn't map, and what they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tflite_models import model_of

from edgepipe.tflite.graph import Model, Op, Quantization, Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """`ops` are those afterwards; `steps` how far a result may be off, in steps of its scale."""

    name: str
    build: Callable[[], Model]
    ops: str
    rewrites: tuple[str, ...]
    steps: int = 0


def real(name: str, shape: Shape, scale: float = 0.05, zero: int = -3) -> Tensor:
    return Tensor(name, shape, "int8", quantization=Quantization((scale,), (zero,)))


def numbers(name: str, values: Any, dtype: str = "int32") -> Tensor:
    return Tensor.constant(name, np.asarray(values, dtype))


def one(
    name: str, shape: Shape, out: Shape, operands: Sequence[Any] = (), **options: Any
) -> Callable[[], Model]:
    """An operator whose ends have one scale; `zero` is the result's zero point, `scale` its
    scale."""
    scale, zero = options.pop("scale", 0.05), options.pop("zero", -3)

    def build() -> Model:
        x, y = real("x", shape), real("y", out, scale, zero)
        more = [
            item if isinstance(item, Tensor) else numbers(f"c{place}", item)
            for place, item in enumerate(operands)
        ]
        first = [x, *more] if name != "TRANSPOSE_CONV" else [*more[:2], x, *more[2:]]
        return model_of([Op.make(name, first, [y], **options)], [x], [y])

    return build


def row(source: Tensor, *steps: tuple[str, Shape, Sequence[Any], dict[str, Any]]) -> Model:
    """Operators in a row that keep the scale."""
    last, ops = source, list[Op]()
    for place, (name, shape, operands, options) in enumerate(steps):
        made = real(f"t{place}", shape)
        given = [numbers(f"c{place}_{i}", item) for i, item in enumerate(operands)]
        if name == "SPLIT":  # The first half goes on.
            halves = [made, real(f"rest{place}", shape)]
            ops.append(Op.make(name, [numbers("axis", 0), last], halves, **options))
        else:
            ops.append(Op.make(name, [last, *given], [made], **options))
        last = made
    return model_of(ops, [source], [last])


def _weights(name: str, shape: Shape, axis: int = 0) -> Tensor:
    values = np.random.default_rng(1).integers(-127, 128, shape)
    scales = tuple(0.001 * (place + 1) for place in range(shape[axis]))
    known = Quantization(scales, (0,) * len(scales), axis)
    return Tensor.constant(name, values.astype(np.int8), quantization=known)


def _bias(weights: Tensor) -> Tensor:
    assert weights.quantization is not None
    scales = tuple(float(np.float32(0.05 * scale)) for scale in weights.quantization.scales)
    values = np.arange(len(scales), dtype=np.int32) * 100
    return Tensor.constant("b", values, quantization=Quantization(scales, (0,) * len(scales)))


def _dense(shape: Shape, out: Shape, keep: bool = False) -> Callable[[], Model]:
    weights = _weights("w", (6, 16))
    return one(
        "FULLY_CONNECTED", shape, out, [weights, _bias(weights)], keep_num_dims=keep, scale=0.2
    )


def _grouped() -> Model:
    weights = _weights("w", (8, 3, 3, 4))
    return one(
        "CONV_2D", (1, 6, 6, 8), (1, 4, 4, 8), [weights, _bias(weights)],
        padding="VALID", stride_w=1, stride_h=1, scale=0.1,
    )()  # fmt: skip


def _deconvolution() -> Model:
    weights = _weights("w", (4, 2, 2, 4))
    return one(
        "TRANSPOSE_CONV", (1, 4, 4, 4), (1, 8, 8, 4), [[1, 8, 8, 4], weights, _bias(weights)],
        padding="VALID", stride_w=2, stride_h=2, fused_activation_function="RELU", scale=0.1,
    )()  # fmt: skip


def _open_deconvolution() -> Model:
    """As TFLiteConverter leaves a Conv2DTranspose whose batch is open."""
    weights = _weights("w", (8, 3, 3, 8))
    x, y = real("x", (1, 12, 12, 8)), real("y", (1, 24, 24, 8), 0.1)
    x.signature, y.signature = (-1, 12, 12, 8), (-1, 24, 24, 8)
    shape, batch = Tensor("shape", (4,), "int32"), Tensor("batch", (), "int32")
    sizes = Tensor("sizes", (4,), "int32")
    ends = [numbers("begin", [0]), numbers("end", [1]), numbers("strides", [1])]
    rest = [numbers(f"size{place}", size) for place, size in enumerate((24, 24, 8))]
    ops = [
        Op.make("SHAPE", [x], [shape], out_type="int32"),
        Op.make("STRIDED_SLICE", [shape, *ends], [batch], shrink_axis_mask=1),
        Op.make("PACK", [batch, *rest], [sizes], values_count=4),
        Op.make(
            "TRANSPOSE_CONV", [sizes, weights, x, _bias(weights)], [y],
            padding="SAME", stride_w=2, stride_h=2,
        ),
    ]  # fmt: skip
    return model_of(ops, [x], [y])


def _stack(name: str, join: str) -> Model:
    x = real("x", (1, 4, 4, 8))
    parts = [real(f"p{i}", x.shape) for i in range(3)]
    ops = [Op.make("RELU6", [x], [parts[0]]), Op.make("RELU", [x], [parts[1]])]
    ops.append(Op.make("RELU_N1_TO_1", [x], [parts[2]]))
    shape, stacked = (1, 3, 4, 4, 8), real("stacked", (1, 3, 4, 4, 8))
    if join == "PACK":
        ops.append(Op.make("PACK", parts, [stacked], axis=1, values_count=3))
    else:
        wide = [real(f"w{i}", (1, 1, 4, 4, 8)) for i in range(3)]
        sizes = numbers("sizes", wide[0].shape)
        ops += [Op.make("RESHAPE", [a, sizes], [b]) for a, b in zip(parts, wide, strict=True)]
        ops.append(Op.make("CONCATENATION", wide, [stacked], axis=1))
    assert shape == stacked.shape
    total = real("y", x.shape, 0.15)
    ops.append(Op.make(name, [stacked, numbers("axis", [1])], [total]))
    return model_of(ops, [x], [total])


def _splitting(name: str, outs: Sequence[Shape], operands: Sequence[Any], **options: Any) -> Model:
    x = real("x", (1, 4, 4, 8))
    made = [real(f"y{i}", shape) for i, shape in enumerate(outs)]
    given = [numbers(f"c{i}", values) for i, values in enumerate(operands)]
    return model_of([Op.make(name, [x, *given], made, **options)], [x], made)


def _float_ends() -> Model:
    x, y = Tensor("x", (1, 4, 4, 8)), Tensor("y", (1, 4, 4, 8))
    stored, made = real("q", x.shape), real("r", x.shape)
    ops = [
        Op.make("QUANTIZE", [x], [stored]),
        Op.make("RELU", [stored], [made]),
        Op.make("DEQUANTIZE", [made], [y]),
    ]
    return model_of(ops, [x], [y])


def _free_batch() -> Model:
    x, y = real("x", (1, 4, 4, 8)), real("y", (1, 128))
    x.signature, y.signature = (-1, 4, 4, 8), (-1, 128)
    sizes, batch = Tensor("sizes", (4,), "int32"), Tensor("batch", (), "int32")
    shape = Tensor("shape", (2,), "int32")
    cut = [numbers(f"c{i}", [value]) for i, value in enumerate((0, 1, 1))]
    ops = [
        Op.make("SHAPE", [x], [sizes], out_type="int32"),
        Op.make("STRIDED_SLICE", [sizes, *cut], [batch], shrink_axis_mask=1),
        Op.make("PACK", [batch, numbers("rest", 128)], [shape], values_count=2),
        Op.make("RESHAPE", [x, shape], [y]),
    ]
    return model_of(ops, [x], [y])


def _wide_slice() -> Model:
    return row(
        real("x", (1, 8, 8, 8)),
        ("RESHAPE", (2, 2, 2, 8, 8), [[2, 2, 2, 8, 8]], {}),
        ("SLICE", (1, 2, 2, 8, 8), [[1, 0, 0, 0, 0], [1, 2, 2, 8, 8]], {}),
        ("RESHAPE", (1, 4, 8, 8), [[1, 4, 8, 8]], {}),
    )


IMAGE = (1, 4, 4, 8)
_INDICES = np.stack(np.meshgrid([0], np.arange(4), np.arange(4), indexing="ij"), -1)
_POOL: dict[str, Any] = {"padding": "VALID", "stride_w": 2, "stride_h": 2, "filter_width": 2,
                         "filter_height": 2, "fused_activation_function": "RELU"}  # fmt: skip


def _dilated_line() -> Model:
    x, y = real("x", (1, 1, 16, 4)), real("y", (1, 1, 12, 2), 0.5)
    scale = Quantization((0.01, 0.02), (0, 0), axis=0)
    window = np.arange(2 * 3 * 4).reshape(2, 1, 3, 4) * 3 - 30
    weights = Tensor.constant("w", window, "int8", scale)
    bias = Tensor.constant("b", np.arange(2), "int32", Quantization((5e-4, 1e-3), (0, 0)))
    op = Op.make(
        "CONV_2D", [x, weights, bias], [y], padding="VALID", stride_w=1, stride_h=1,
        dilation_w_factor=2, dilation_h_factor=1,
    )  # fmt: skip
    return model_of([op], [x], [y])


CASES = (
    Case("wide_paddings", one("PAD", IMAGE, (1, 6, 4, 8),
                              [numbers("a", [[0, 0], [1, 1], [0, 0], [0, 0]], "int64")]),
         "PAD", ("integer_constants",)),
    Case("padding_with_zero_point",
         one("PADV2", IMAGE, (1, 6, 6, 8), [[[0, 0], [1, 1], [1, 1], [0, 0]],
             Tensor.constant("fill", np.int8(-3), quantization=Quantization((0.05,), (-3,)))]),
         "PAD", ("zero_padding",)),
    Case("reflected", one("MIRROR_PAD", IMAGE, (1, 5, 8, 8), [[[0, 0], [1, 0], [2, 2], [0, 0]]],
                          mode="REFLECT"),
         "SLICE CONCATENATION SLICE SLICE SLICE SLICE CONCATENATION", ("mirror_padding",)),
    Case("symmetric", one("MIRROR_PAD", IMAGE, (1, 6, 4, 8), [[[0, 0], [1, 1], [0, 0], [0, 0]]],
                          mode="SYMMETRIC"), "SLICE SLICE CONCATENATION", ("mirror_padding",)),
    Case("tiled_pixels", lambda: row(
        real("x", IMAGE), ("RESHAPE", (1, 4, 1, 4, 1, 8), [[1, 4, 1, 4, 1, 8]], {}),
        ("TILE", (1, 4, 2, 4, 2, 8), [[1, 1, 2, 1, 2, 1]], {}),
        ("RESHAPE", (1, 8, 8, 8), [[1, 8, 8, 8]], {})),
        "RESIZE_NEAREST_NEIGHBOR", ("upsampling",)),
    Case("gathered_pixels", lambda: row(
        real("x", IMAGE), ("GATHER", (1, 8, 4, 8), [np.arange(8) // 2], {"axis": 1}),
        ("GATHER", (1, 8, 8, 8), [np.arange(8) // 2], {"axis": 2})),
        "RESIZE_NEAREST_NEIGHBOR", ("upsampling",)),
    Case("gather_of_all", one("GATHER_ND", IMAGE, IMAGE, [_INDICES]), "RESHAPE", ("gathers",)),
    Case("gather_of_neighbours", one("GATHER", IMAGE, (1, 2, 4, 8), [[1, 2]], axis=1), "SLICE",
         ("gathers",)),
    Case("stretched_pixel", one("RESIZE_BILINEAR", (1, 1, 1, 8), IMAGE, [[4, 4]]), "MUL",
         ("single_pixels",)),
    Case("large_mean", one("MEAN", (1, 256, 128, 4), (1, 4), [[1, 2]]), "AVERAGE_POOL_2D MEAN",
         ("large_means",), 1),
    Case("mean_of_moved_channels", lambda: row(
        real("x", (1, 4, 4, 6)), ("TRANSPOSE", (1, 6, 4, 4), [[0, 3, 1, 2]], {}),
        ("MEAN", (1, 6, 1, 1), [[2, 3]], {"keep_dims": True})),
        "MEAN RESHAPE", ("pooled_transposes",)),
    Case("summed_stack", lambda: _stack("SUM", "PACK"), "RELU6 RELU RELU_N1_TO_1 ADD ADD",
         ("stacked_sums",), 2),
    Case("mean_of_joined", lambda: _stack("MEAN", "CONCATENATION"),
         "RELU6 RELU RELU_N1_TO_1 ADD ADD MUL", ("stacked_sums",), 2),
    Case("dense_on_rows", _dense((5, 16), (5, 6)), "RESHAPE CONV_2D RESHAPE", ("dense_rows",)),
    Case("dense_on_image", _dense((1, 3, 5, 16), (1, 3, 5, 6), True), "CONV_2D", ("dense_rows",)),
    Case("dense_that_keeps_dimensions", _dense((1, 1, 1, 16), (1, 1, 1, 6), True),
         "RESHAPE FULLY_CONNECTED RESHAPE", ("dense_rows",)),
    Case("inner_squeeze", one("SQUEEZE", (1, 4, 1, 8), (1, 4, 8), squeeze_dims=[2]), "RESHAPE",
         ("views",)),
    Case("uneven_split", lambda: _splitting(
        "SPLIT_V", [(1, 4, 4, 3), (1, 4, 4, 5)], [[3, 5], 3], num_splits=2), "SLICE SLICE",
        ("views",)),
    Case("split_of_five", lambda: row(
        real("x", (1, 8, 8, 8)), ("RESHAPE", (2, 2, 2, 8, 8), [[2, 2, 2, 8, 8]], {}),
        ("SPLIT", (1, 2, 2, 8, 8), [], {"num_splits": 2}),
        ("RESHAPE", (1, 4, 8, 8), [[1, 4, 8, 8]], {})),
        "RESHAPE SLICE RESHAPE", ("views", "ranks")),
    Case("unpacked", lambda: _splitting("UNPACK", [(1, 4, 8)] * 4, [], num=4, axis=1),
         "SLICE RESHAPE SLICE RESHAPE SLICE RESHAPE SLICE RESHAPE", ("views",)),
    Case("tiled", one("TILE", IMAGE, (1, 4, 4, 16), [[1, 1, 1, 2]]), "CONCATENATION", ("views",)),
    Case("every_second_pixel", one("STRIDED_SLICE", (1, 8, 8, 8), IMAGE,
                                   [[0, 1, 0, 0], [1, 8, 8, 8], [1, 2, 2, 1]]),
         "SLICE MAX_POOL_2D", ("strided_slices",)),
    Case("pool_with_relu", one("MAX_POOL_2D", IMAGE, (1, 2, 2, 8), **_POOL), "MAX_POOL_2D RELU",
         ("fused_activations",)),
    Case("open_deconvolution", _open_deconvolution, "TRANSPOSE_CONV", ("static_shapes",), 1),
    Case("deconvolution_with_relu", _deconvolution, "TRANSPOSE_CONV RELU", ("fused_activations",)),
    Case("groups", _grouped, "SPLIT CONV_2D CONV_2D CONCATENATION", ("grouped_convolutions",)),
    Case("dilated_line", _dilated_line, "CONV_2D", ("line_dilations",)),
    Case("hard_swish", one("HARD_SWISH", IMAGE, IMAGE, scale=0.03, zero=-115), "ADD MUL MUL",
         ("hard_swish",), 2),
    Case("gelu", one("GELU", IMAGE, IMAGE, scale=0.03, zero=-115), "MUL LOGISTIC MUL",
         ("gelu",), 2),
    Case("leaky_relu", one("LEAKY_RELU", IMAGE, IMAGE, alpha=0.2), "PRELU", ("leaky_relu",), 1),
    Case("shuffled_channels", lambda: row(
        real("x", IMAGE), ("RESHAPE", (1, 4, 4, 2, 4), [[1, 4, 4, 2, 4]], {}),
        ("TRANSPOSE", (1, 4, 4, 4, 2), [[0, 1, 2, 4, 3]], {}),
        ("RESHAPE", IMAGE, [[1, 4, 4, 8]], {})),
        "RESHAPE TRANSPOSE RESHAPE", ("ranks", "reshapes")),
    Case("slice_of_five", _wide_slice, "RESHAPE SLICE RESHAPE", ("ranks", "reshapes")),
    Case("relu_of_windows", lambda: row(
        real("x", IMAGE), ("RESHAPE", (2, 2, 4, 8), [[2, 2, 4, 8]], {}),
        ("RELU", (2, 2, 4, 8), [], {}), ("RESHAPE", IMAGE, [[1, 4, 4, 8]], {})),
        "RESHAPE RELU RESHAPE", ("ranks", "reshapes")),
    Case("float_ends", _float_ends, "RELU", ("float_ends",)),
    Case("free_batch", _free_batch, "RESHAPE", ("static_shapes",)),
)  # fmt: skip
