"""How much each operator computes: multiply-accumulates, or elements for those that have none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from edgepipe.cost.network import Node, Shape

Formula = Callable[[Node], "int | None"]
"""None where a shape that it needs is unknown, or doesn't fit the operator."""


def _product(*factors: int | None) -> int | None:
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def _size(shape: Shape | None) -> int | None:
    return None if shape is None else math.prod(shape)


def _weights_per_output(place: int, skip: slice) -> Formula:
    """Each output element sums over the kernel's axes in `skip`."""

    def formula(node: Node) -> int | None:
        weights, output = node.shape(place), node.outputs[0].elements
        return None if weights is None else _product(output, math.prod(weights[skip]))

    return formula


def _weights_per_input(data: int, place: int, skip: slice) -> Formula:
    """Each input element is multiplied into the kernel's axes in `skip`: transposed ones."""

    def formula(node: Node) -> int | None:
        weights = node.shape(place)
        return (
            None if weights is None else _product(_size(node.shape(data)), math.prod(weights[skip]))
        )

    return formula


def _inner(place: int, axis: int, flag: str = "", turned: int = -2) -> Formula:
    """Each output element sums over one axis of an input, another one where `flag` is set."""

    def formula(node: Node) -> int | None:
        shape = node.shape(place)
        at = turned if flag and node.attributes.get(flag) else axis
        if shape is None or len(shape) < abs(at):
            return None
        return _product(node.outputs[0].elements, shape[at])

    return formula


def _recurrent(places: Iterable[int]) -> Formula:
    """Every step of every sample multiplies with all of these weights once."""
    chosen = tuple(places)

    def formula(node: Node) -> int | None:
        data = node.shape(0)
        present = [place for place in chosen if place < len(node.inputs)]
        sizes = [_size(node.shape(place)) for place in present if node.inputs[place] is not None]
        if data is None or None in sizes or not sizes:
            return None
        return math.prod(data[:-1]) * sum(size for size in sizes if size is not None)

    return formula


def _svdf(node: Node) -> int | None:
    data, features, times = node.shape(0), node.shape(1), node.shape(2)
    if data is None or features is None or times is None or not data:
        return None
    return data[0] * (math.prod(features) + math.prod(times))


def _einsum(node: Node) -> int | None:
    """The size of the whole loop nest, once for each operand but the first."""
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    terms = equation.split("->")[0].split(",")
    sizes: dict[str, int] = {}
    if len(terms) != len(node.inputs):
        return None
    for place, term in enumerate(terms):
        shape = node.shape(place)
        if shape is None:
            return None
        letters: list[str] = list(term.replace("...", ""))
        if "..." in term:
            more = len(shape) - len(letters)
            at = term.index("...")
            letters[at:at] = [f".{-number}" for number in range(more, 0, -1)]
        if len(letters) != len(shape):
            return None
        for letter, size in zip(letters, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1)) if size else 0
    return math.prod(sizes.values()) * max(len(terms) - 1, 0)


def _attention(node: Node) -> int | None:
    """Scores and their product with the values; onnx.Attention, 3-D or 4-D, heads shared or not."""
    query, key, value = node.shape(0), node.shape(1), node.shape(2)
    if query is None or key is None or value is None or not len(query) == len(key) == len(value):
        return None
    if len(query) == 4:
        batch, heads, length, width = query
        past = node.shape(4)
        span = key[2] + (past[2] if past is not None and len(past) == 4 else 0)
        return batch * heads * length * span * (width + value[3])
    if len(query) != 3:
        return None
    past = node.shape(4)
    span = key[1] + (past[2] if past is not None and len(past) == 4 else 0)
    heads = int(node.attributes.get("q_num_heads", 1) or 1)
    kept = int(node.attributes.get("kv_num_heads", 1) or 1)
    return query[0] * query[1] * span * (query[2] + value[2] * heads // kept)


def _multi_head(node: Node) -> int | None:
    """com.microsoft's, with query, key and value apart as [batch, length, width]."""
    query, key, value = node.shape(0), node.shape(1), node.shape(2)
    if (
        query is None
        or key is None
        or value is None
        or not len(query) == len(key) == len(value) == 3
    ):
        return None
    return query[0] * query[1] * key[1] * (query[2] + value[2])


def _fused_attention(node: Node) -> int | None:
    """com.microsoft's, with the projection of its input to query, key and value inside."""
    data, weights = node.shape(0), node.shape(1)
    if data is None or weights is None or len(data) != 3 or len(weights) != 2:
        return None
    batch, length, _ = data
    projected = batch * length * math.prod(weights)
    return projected + 2 * batch * length * length * (weights[1] // 3)


def _packed_columns(node: Node) -> int | None:
    """com.microsoft's MatMulNBits, whose weights are packed: K is an attribute."""
    return _product(node.outputs[0].elements, int(node.attributes.get("K", 0)) or None)


_CONV, _CONV_LAST = _weights_per_output(1, slice(1, None)), _weights_per_output(1, slice(0, 4))

MACS: dict[str, Formula] = {
    # TFLite: kernels are [out, height, width, in], and [1, height, width, channels] by depth.
    "CONV_2D": _CONV,
    "DEPTHWISE_CONV_2D": _weights_per_output(1, slice(1, 3)),
    "TRANSPOSE_CONV": _weights_per_input(2, 1, slice(0, 3)),
    "CONV_3D": _CONV_LAST,
    "CONV_3D_TRANSPOSE": _weights_per_input(2, 1, slice(0, 4)),
    "FULLY_CONNECTED": _inner(1, -1),
    "BATCH_MATMUL": _inner(0, -1, "adj_x"),
    "LSTM": _recurrent((*range(1, 12), 16)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _recurrent((*range(1, 12), 16)),
    "BIDIRECTIONAL_SEQUENCE_LSTM": _recurrent((*range(1, 12), 16, *range(18, 29), 33)),
    "RNN": _recurrent((1, 2)),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _recurrent((1, 2)),
    "BIDIRECTIONAL_SEQUENCE_RNN": _recurrent((1, 2, 5, 6)),
    "SVDF": _svdf,
    # ONNX: kernels are [out, in / groups, ...].
    "Conv": _CONV,
    "ConvInteger": _CONV,
    "DeformConv": _CONV,
    "com.microsoft:FusedConv": _CONV,
    "QLinearConv": _weights_per_output(3, slice(1, None)),
    "ConvTranspose": _weights_per_input(0, 1, slice(1, None)),
    "Gemm": _inner(0, -1, "transA"),
    "com.microsoft:FusedGemm": _inner(0, -1, "transA"),
    "MatMul": _inner(0, -1),
    "MatMulInteger": _inner(0, -1),
    "QLinearMatMul": _inner(0, -1),
    "com.microsoft:FusedMatMul": _inner(0, -1, "transA"),
    "com.microsoft:MatMulNBits": _packed_columns,
    "onnx:LSTM": _recurrent((1, 2)),
    "onnx:GRU": _recurrent((1, 2)),
    "onnx:RNN": _recurrent((1, 2)),
    "Einsum": _einsum,
    "Attention": _attention,
    "com.microsoft:MultiHeadAttention": _multi_head,
    "com.microsoft:Attention": _fused_attention,
}  # fmt: skip


def _outputs(node: Node) -> int | None:
    return node.result()


def _first_input(node: Node) -> int | None:
    """Reductions and the like look at each element once."""
    return _size(node.shape(0))


def _window(node: Node) -> int | None:
    """Pooling looks at a window for each output element."""
    attributes = node.attributes
    kernel = attributes.get("kernel_shape") or (
        attributes.get("filter_height"), attributes.get("filter_width"),
    )  # fmt: skip
    if any(not isinstance(size, int) for size in kernel):
        return None
    return _product(node.outputs[0].elements, math.prod(kernel))


def _table(formula: Formula, names: str) -> dict[str, Formula]:
    return dict.fromkeys(names.split(), formula)


def _nothing(node: Node) -> int | None:
    return 0


ELEMENTS: dict[str, Formula] = {
    **_table(_outputs, """
ABS ADD ADD_N ATAN2 BITWISE_XOR BUCKETIZE CAST CEIL COMPLEX_ABS COS DEQUANTIZE DIV ELU EQUAL EXP
FAKE_QUANT FLOOR FLOOR_DIV FLOOR_MOD GELU GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION
LEAKY_RELU LESS LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR
LOGISTIC LOG_SOFTMAX MAXIMUM MINIMUM MUL NEG NOT_EQUAL POW PRELU QUANTIZE RANDOM_STANDARD_NORMAL
RANDOM_UNIFORM RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
RIGHT_SHIFT ROUND RSQRT SELECT SELECT_V2 SIGN SIN SOFTMAX SQRT SQUARE SQUARED_DIFFERENCE SUB TANH
CUMSUM
Abs Acos Acosh Add And Asin Asinh Atan Atanh BatchNormalization BitShift BitwiseAnd BitwiseNot
BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh CumSum DequantizeLinear Div Dropout
DynamicQuantizeLinear Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual GridSample
GroupNormalization HardSigmoid HardSwish Hardmax InstanceNormalization IsInf IsNaN LRN
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization Max Mean
MeanVarianceNormalization Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear RMSNormalization
RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reciprocal Relu Resize
RotaryEmbedding Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Sub Sum
Swish Tan Tanh ThresholdedRelu Upsample Where Xor
com.microsoft:Gelu com.microsoft:FastGelu com.microsoft:BiasGelu com.microsoft:QuickGelu
com.microsoft:SkipLayerNormalization com.microsoft:QLinearAdd com.microsoft:QLinearMul
com.microsoft:QLinearSigmoid com.microsoft:QLinearLeakyRelu com.microsoft:QLinearConcat
com.microsoft:QuantizeLinear com.microsoft:DequantizeLinear com.microsoft:QLinearSoftmax
"""),
    **_table(_first_input, """
ARG_MAX ARG_MIN MEAN REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD SUM SEGMENT_SUM
TOPK_V2 UNIQUE WHERE UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD
UNSORTED_SEGMENT_SUM
ArgMax ArgMin GlobalAveragePool GlobalLpPool GlobalMaxPool NonZero ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare TopK Unique
com.microsoft:QLinearGlobalAveragePool
"""),
    **_table(_window, """
AVERAGE_POOL_2D L2_POOL_2D MAX_POOL_2D AveragePool LpPool MaxPool
com.microsoft:QLinearAveragePool
"""),
    # What only moves data, and what only runs other graphs.
    **_table(_nothing, """
ASSIGN_VARIABLE BATCH_TO_SPACE_ND BITCAST BROADCAST_ARGS BROADCAST_TO CALL CALL_ONCE CONCATENATION
DENSIFY DEPTH_TO_SPACE DILATE DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP EXPAND_DIMS FILL GATHER
GATHER_ND HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE IF IMAG
MATRIX_DIAG MATRIX_SET_DIAG MIRROR_PAD ONE_HOT PACK PAD PADV2 RANGE RANK READ_VARIABLE REAL
RESHAPE REVERSE_SEQUENCE REVERSE_V2 SCATTER_ND SHAPE SLICE SPACE_TO_BATCH_ND SPACE_TO_DEPTH
SPARSE_TO_DENSE SPLIT SPLIT_V SQUEEZE STRIDED_SLICE TILE TRANSPOSE UNPACK VAR_HANDLE WHILE
ZEROS_LIKE
CenterCropPad Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace Expand
EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot Pad Range Reshape
ReverseSequence Scan Scatter ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty
SequenceInsert SequenceLength Shape Size Slice SpaceToDepth Split SplitToSequence Squeeze
TensorScatter Tile Transpose Trilu Unsqueeze
"""),
}  # fmt: skip

PICKS = {
    "GATHER", "GATHER_ND", "EMBEDDING_LOOKUP", "SLICE", "STRIDED_SLICE", "DYNAMIC_UPDATE_SLICE",
    "Gather", "GatherElements", "GatherND", "Slice",
}  # fmt: skip
"""Operators that read only as much of their first input as they give."""

NO_DATA = {"SHAPE", "RANK", "Shape", "Size", "Constant"}
"""Operators that look at no values of their input."""
