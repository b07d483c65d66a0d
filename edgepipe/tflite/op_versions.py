"""The lowest version of a builtin operator that has the features which one use of it needs.

An older runtime or compiler refuses a version that it doesn't know, even where the features are
those of an older one. The rules are those of `GetBuiltinOperatorVersion` in LiteRT's
tools/versioning/op_version.cc.
"""

from __future__ import annotations

from collections.abc import Callable

from edgepipe.tflite.graph import Op, Tensor

_BY_TYPE = """
MAX_POOL_2D AVERAGE_POOL_2D: int16=3 int8=2
TRANSPOSE: int4=7 int16=5 bool=3 int8=2
SLICE: int4=7 uint32=6 int16=4 string=3 int8=2
UNPACK: int8=2 uint8=2 bool=3 int16=4 float16=5 bfloat16=5
FLOOR_DIV: int16=3 int8=3 float32=2
FLOOR_MOD: int16=2 int8=2
ABS: int32=5 int8=2 uint8=2
RELU: int16=3 int8=2 uint8=2
STRIDED_SLICE: uint32=7 string=5 bool=3 int8=2
REVERSE_V2: int8=3 bool=2
MAXIMUM MINIMUM: int16=4 int8=2
PACK: int8=2 int16=3 uint32=4
TILE: int8=3 string=2
SQUEEZE: string=2
SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND: int16=4 int8=2
ADD: float16=6 int64=4 int8=2
SUB: int64=4 int8=2
MUL: float16=8 uint32=7 complex64=6 int64=5 int8=2
GATHER_ND: bool=5 int16=3 string=2
GATHER: int4=7 int16=4 bool=3 int8=2
DIV:
TANH LOGISTIC: int16=3 int8=2
EQUAL: int16=5 string=3 int8=2
NOT_EQUAL: int16=4 string=3 int8=2
LEAKY_RELU: int16=2
RANGE: int64=2
PAD PADV2: bool=5 int16=3 int8=2
CONCATENATION: float16=6 int4=5 uint32=4 int16=3 int8=2
SOFTMAX: float16=4 int16=3 int8=2
MEAN MIRROR_PAD REDUCE_MAX REDUCE_MIN RELU6 RSQRT: int16=3 int8=2
BATCH_MATMUL: int16=3 int8=2
ARG_MAX ARG_MIN: bool=3 int8=2
SELECT: uint32=4 int8=2
LESS GREATER_EQUAL: int16=3 int8=2
SELECT_V2: uint32=2
SPACE_TO_DEPTH SPLIT_V SUM LOG_SOFTMAX GREATER LESS_EQUAL SQUARED_DIFFERENCE DEPTH_TO_SPACE: int8=2
TOPK_V2: int16=3 int8=2
EXP LOG REDUCE_PROD SQRT: int8=2 int16=2
SIGN: int32=2
SIN COS: float16=2
GELU: int8=2 uint8=2
RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR: int16=4 int8=2
QUANTIZE:
DEQUANTIZE: uint4=8 int2=7 int4=6 int16=3 float16=3 int8=2
RESHAPE EXPAND_DIMS SHAPE PRELU HARD_SWISH NEG POW SQUARE FLOOR CEIL ROUND ELU RELU_N1_TO_1:
RELU_0_TO_1 ONE_HOT LOGICAL_AND LOGICAL_OR LOGICAL_NOT CUMSUM ZEROS_LIKE RANK L2_POOL_2D:
"""

_INPUT = {"SPLIT": 1, "FILL": 1, "SPARSE_TO_DENSE": 2}
"""Where the type that matters is not that of the first input."""

_BY_TYPE_OF_INPUT = """
SPLIT: int16=4 int32=3 int8=2
FILL: float16=4 int8=3 int16=3 bool=2 string=2
SPARSE_TO_DENSE: int8=3 uint8=3 int64=2
"""

_RARE = {"float16", "bfloat16", "int4", "int2", "uint4", "uint16"}
"""Types that runtimes learned one operator at a time: where one occurs, the file's own version
is never lowered."""


def _types(text: str) -> dict[str, dict[str, int]]:
    rules: dict[str, dict[str, int]] = {}
    for line in text.strip().splitlines():
        names, _, versions = line.partition(":")
        pairs = [item.split("=") for item in versions.split()]
        rules.update({name: {kind: int(one) for kind, one in pairs} for name in names.split()})
    return rules


_RULES = _types(_BY_TYPE) | _types(_BY_TYPE_OF_INPUT)


def lowest_version(op: Op) -> int:
    """That of the file where the operator is unknown here, or its types are rare."""
    special = _FEATURES.get(op.name)
    if op.name not in _RULES and special is None:
        return op.version
    found = special(op) if special is not None else 0
    if not found:
        found = _RULES.get(op.name, {}).get(_type(op, _INPUT.get(op.name, 0)), 1)
    every = {tensor.dtype for tensor in (*op.reads(), *op.outputs)}
    return max(found, op.version) if every & _RARE else found


def _input(op: Op, number: int) -> Tensor | None:
    return op.inputs[number] if number < len(op.inputs) else None


def _type(op: Op, number: int) -> str:
    tensor = _input(op, number)
    return "" if tensor is None else tensor.dtype


def _rank(op: Op) -> int:
    return max((len(tensor.shape) for tensor in op.reads()), default=0)


def _kinds(op: Op) -> tuple[str, str, str]:
    """Types of the first two inputs and of the output."""
    return _type(op, 0), _type(op, 1), op.outputs[0].dtype if op.outputs else ""


_HYBRID = ("float32", "int8", "float32")
_INT8 = ("int8", "int8", "int8")
_INT4_WEIGHTS = ("int8", "int4", "int8")
_INT16 = ("int16", "int16", "int16")
_INT16_BY_8 = ("int16", "int8", "int16")


def _scales(tensor: Tensor | None) -> int:
    return len(tensor.quantization.scales) if tensor is not None and tensor.quantization else 0


def _per_channel(tensor: Tensor | None, axis: int) -> bool:
    """Judged as op_signature.cc does: as many scales as the axis is long."""
    if tensor is None or not tensor.shape or not -len(tensor.shape) <= axis < len(tensor.shape):
        return False
    return _scales(tensor) == tensor.shape[axis]


def _conv(op: Op) -> int:
    source, weights = _input(op, 0), _input(op, 1)
    kinds = _kinds(op)
    if kinds == _INT16_BY_8 and op.option("quantized_bias_type") != "float32":
        return 8
    if source and weights and source.shape and source.shape[-1:] != weights.shape[-1:]:
        return 6  # grouped
    if kinds == _HYBRID:
        return 5 if _per_channel(weights, 0) else 2
    return {_INT8: 3, _INT4_WEIGHTS: 7, _INT16: 4}.get(kinds, 1)


def _depthwise(op: Op) -> int:
    kinds = _kinds(op)
    if kinds == _HYBRID:
        return 6 if _per_channel(_input(op, 1), 3) else 4
    if kinds in (_INT8, _INT4_WEIGHTS, _INT16):
        return {_INT8: 3, _INT4_WEIGHTS: 7, _INT16: 5}[kinds]
    dilated = (op.option("dilation_w_factor"), op.option("dilation_h_factor")) != (1, 1)
    return 2 if dilated else 1


def _dense(op: Op) -> int:
    kinds, weights = _kinds(op), _input(op, 1)
    hybrid = kinds == _HYBRID
    cases = (
        (kinds[1] == "int2", 14),
        (kinds == ("int16", "int4", "int16"), 13),
        (hybrid and _per_channel(weights, 0), 12),
        (kinds == _INT16_BY_8 and op.option("quantized_bias_type") != "float32", 11),
        (weights is not None and weights.sparsity is not None, 8),
        (kinds == _INT16, 7),
        (len(op.inputs) == 2, 6),
        (op.option("keep_num_dims"), 5),
        (kinds == _INT8, 4),
        (kinds == _INT4_WEIGHTS, 10),
        (hybrid, 9 if op.option("asymmetric_quantize_inputs") else 3),
        (op.option("weights_format") != "DEFAULT", 2),
    )
    return next((version for holds, version in cases if holds), 1)


def _transposed_conv(op: Op) -> int:
    cases = (
        (_kinds(op) == _INT16_BY_8 and op.option("quantized_bias_type") != "float32", 5),
        (op.activation != "NONE", 4),
        (_input(op, 3) is not None, 3),
        (_type(op, 1) == "int8", 2),
    )
    return next((version for holds, version in cases if holds), 1)


def _mul(op: Op) -> int:
    first, second = (_input(op, 0), _input(op, 1))
    if first is not None and first.dtype == "int16":
        return 4 if _scales(first) or _scales(second) else 7
    if first is None or second is None or first.dtype not in ("int8", "uint8"):
        return 0
    scales = [one.quantization.scales for one in (first, second, *op.outputs) if one.quantization]
    if len(scales) == 3 and all(scales) and scales[0][0] * scales[1][0] >= scales[2][0]:
        return 3
    return 0


def _add(op: Op) -> int:
    if _type(op, 0) != "int16":
        return 0
    return 5 if not _scales(_input(op, 0)) else 1 if op.option("pot_scale_int16") else 3


def _sub(op: Op) -> int:
    if _type(op, 0) == "int16" and not op.option("pot_scale_int16"):
        return 5
    return 3 if _type(op, 0) != "int64" and _wide_broadcast(op) else 0


def _wide_broadcast(op: Op) -> bool:
    shapes = [tensor.shape for tensor in op.reads()][:2]
    return _rank(op) > 4 and len(set(shapes)) > 1


def _by_rank(op: Op) -> int:
    """What needs a version for its many dimensions, where its type doesn't need a higher one."""
    rank, kind = len(op.inputs[0].shape) if op.inputs[0] else 0, _type(op, 0)
    if op.name == "TRANSPOSE" and kind != "int4":
        return 8 if rank > 6 else 6 if rank > 5 else 4 if rank > 4 and kind != "int16" else 0
    if op.name == "SLICE":
        return 5 if rank > 4 and kind not in ("int4", "uint32") else 0
    if op.name in ("PAD", "PADV2"):
        return 4 if rank > 4 and kind != "bool" else 0
    if op.name in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"):
        return 3 if rank != 4 and kind != "int16" else 0
    return 0


def _strided_slice(op: Op) -> int:
    if op.option("offset"):
        return 8
    if _type(op, 0) == "uint32":
        return 7
    if op.option("ellipsis_mask") or op.option("new_axis_mask"):
        return 6
    source = _input(op, 0)
    return 4 if source and len(source.shape) > 4 and source.dtype != "string" else 0


def _resize(op: Op) -> int:
    if _type(op, 0) == "int16":
        return 4
    corners = op.name == "RESIZE_NEAREST_NEIGHBOR" and op.option("align_corners")
    return 3 if op.option("half_pixel_centers") or corners else 0


def _gather(op: Op) -> int:
    if _type(op, 0) == "int4":
        return 7
    return 6 if _type(op, 1) == "int16" else 5 if op.option("batch_dims") else 0


def _quantize(op: Op) -> int:
    kinds = {_type(op, 0), op.outputs[0].dtype}
    many = _scales(op.outputs[0]) > 1
    cases = (("uint4" in kinds, 5), ("int4" in kinds, 4), (many, 3), (_kinds(op)[2] == "int16", 2))
    return next((version for holds, version in cases if holds), 1)


def _lstm(op: Op) -> int:
    whole = op.name == "LSTM"
    if whole and op.option("kernel_type") == "BASIC":
        return 2
    kinds = (_type(op, 0), _type(op, 2), op.outputs[0].dtype if op.outputs else "")
    if kinds == _INT16_BY_8:
        return 5
    if not whole and op.option("diagonal_recurrent_tensors"):
        return 4
    if kinds == _HYBRID:
        return (3 if whole else 2) + bool(op.option("asymmetric_quantize_inputs"))
    return 1


def _hybrid_recurrent(op: Op) -> int:
    if (_type(op, 1), op.outputs[0].dtype) == ("int8", "float32"):
        return 3 if op.option("asymmetric_quantize_inputs") else 2
    return 1


def _svdf(op: Op) -> int:
    if _type(op, 0) == "int8":
        return 3
    return (4 if op.option("asymmetric_quantize_inputs") else 2) if _kinds(op) == _HYBRID else 1


def _cast(op: Op) -> int:
    kinds = {_type(op, 0), op.outputs[0].dtype}
    cases = (
        ({"int2", "uint4"}, 8), ({"bfloat16"}, 7), ({"int4"}, 6), ({"float64", "float16"}, 5),
        ({"uint16"}, 4), ({"int8"}, 3), ({"uint32"}, 2),
    )  # fmt: skip
    return next((version for some, version in cases if kinds & some), 1)


_FEATURES: dict[str, Callable[[Op], int]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "TRANSPOSE_CONV": _transposed_conv,
    "MUL": _mul,
    "ADD": _add,
    "SUB": _sub,
    "DIV": lambda op: 2 if _wide_broadcast(op) else 0,
    "MAXIMUM": lambda op: 3 if _type(op, 0) != "int16" and _wide_broadcast(op) else 0,
    "MINIMUM": lambda op: 3 if _type(op, 0) != "int16" and _wide_broadcast(op) else 0,
    **dict.fromkeys(("TRANSPOSE", "SLICE", "PAD", "PADV2"), _by_rank),
    **dict.fromkeys(("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"), _by_rank),
    "STRIDED_SLICE": _strided_slice,
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _resize),
    "GATHER": _gather,
    "GATHER_ND": lambda op: 4 if _type(op, 1) == "int16" and _type(op, 0) != "bool" else 0,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": lambda op: 5 if _type(op, 0) == "int8" and _scales(_input(op, 0)) > 1 else 0,
    "ABS": lambda op: (3 if _scales(_input(op, 0)) else 4) if _type(op, 0) == "int16" else 0,
    "BATCH_MATMUL": lambda op: (
        4 if _kinds(op) == _HYBRID and op.option("asymmetric_quantize_inputs") else 0
    ),
    "FAKE_QUANT": lambda op: 2 if op.option("narrow_range") else 1,
    "L2_NORMALIZATION": lambda op: 2 if op.outputs[0].dtype == "int8" else 1,
    "LSTM": _lstm,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    **dict.fromkeys(
        ("RNN", "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN"), _hybrid_recurrent
    ),
    "BIDIRECTIONAL_SEQUENCE_LSTM": _hybrid_recurrent,
    "SVDF": _svdf,
    "CAST": _cast,
    "BROADCAST_TO": lambda op: 3 if _type(op, 0) in ("int8", "int16") else 2,
    "WHERE": lambda op: 1 if _type(op, 0) == "bool" else 2,
}
"""Operators whose options or shapes count; 0 leaves it to the type."""
