"""What the Edge TPU compiler maps, as rules: each a check, its sentence, its source.

A rule's docstring is the sentence that the user reads and the line of docs/edgetpu-ops.md; it is
formatted from the constants that the check uses, so that the three can't drift apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgepipe.targets.edgetpu import op_releases
from edgepipe.tflite.graph import Op, Tensor

SEEN, DOCUMENTED, INFERRED = "seen in a real file", "documented", "inferred"
CORAL = "coral.ai/docs/edgetpu/models-intro"

UNSPECIFIED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
UNSUPPORTED = "Operation not supported"
WRONG_TYPE = "Operation is working on an unsupported data type"
WRONG_VERSION = "Operation version not supported"
WRONG_RANK = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
NOT_CONSTANT = "Filter, bias, or other param is not constant at compile-time"
STRIDES = "Only Strided-Slice with unitary strides supported"
IMPRECISE = "Image-interpolation layer won't run precisely enough on Edge TPU"
"""The compiler's own words."""

_SUPPORTED = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED
L2_NORMALIZATION LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE
REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB SUM SQUARED_DIFFERENCE TANH
TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
"""
SUPPORTED = frozenset(_SUPPORTED.split())
_SEEN_MAPPED = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED LOGISTIC MAX_POOL_2D
MAXIMUM MEAN MINIMUM MUL PAD QUANTIZE RELU RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SOFTMAX
SPLIT STRIDED_SLICE SUB TRANSPOSE UNIDIRECTIONAL_SEQUENCE_LSTM
"""
SEEN_MAPPED = frozenset(_SEEN_MAPPED.split())
"""Operators that are mapped in real compiled files; the others are only documented."""

EIGHT_BITS = ("int8", "uint8")
LARGEST_SOFTMAX = 16_000
DEPTH_STEP = 4
TILES, TILE_BYTES = 16, 196_608
ON_CHIP = TILES * TILE_BYTES
MEAN_SEEN_MAPPED, MEAN_SEEN_LEFT = 64 * 128, 256 * 128
"""Pixels of a MEAN; between the two nothing is known."""

_CONSTANTS = {
    "CONV_2D": (1, 2), "DEPTHWISE_CONV_2D": (1, 2), "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (0, 1, 3), "RESHAPE": (1,), "PAD": (1,), "MEAN": (1,), "SUM": (1,),
    "REDUCE_MAX": (1,), "REDUCE_MIN": (1,), "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,), "STRIDED_SLICE": (1, 2, 3), "SLICE": (1, 2),
    "TRANSPOSE": (1,), "SPLIT": (0,), "PRELU": (1,), "EXPAND_DIMS": (1,),
}  # fmt: skip
"""Inputs that must be constants."""
_RESIZES = ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
_REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")

Check = Callable[[Op], bool]


@dataclass(frozen=True)
class Rule:
    """`holds` tells whether an operator keeps it; `ops` empty means all."""

    name: str
    words: str
    ops: tuple[str, ...]
    status: str
    confidence: str
    source: str
    fix: str
    holds: Check


RULES: list[Rule] = []
"""In the order in which they are tried: the first that is broken gives an operator's status."""


def _rule(
    status: str, confidence: str, source: str, fix: str, ops: tuple[str, ...] = ()
) -> Callable[[Check], Check]:
    def keep(check: Check) -> Check:
        words = " ".join((check.__doc__ or "").split()).format(
            step=DEPTH_STEP, largest=f"{LARGEST_SOFTMAX:,}", chip=f"{ON_CHIP:,}",
            types=" or ".join(EIGHT_BITS), area=f"{MEAN_SEEN_LEFT:,}",
        )  # fmt: skip
        name = check.__name__.strip("_")
        RULES.append(Rule(name, words, ops, status, confidence, source, fix, check))
        return check

    return keep


def broken(op: Op) -> Rule | None:
    """The first rule that an operator breaks."""
    return next(
        (rule for rule in RULES if (not rule.ops or op.name in rule.ops) and not rule.holds(op)),
        None,
    )


def data(op: Op) -> list[Tensor]:
    """Activations that go in and out: no constants and no state that it keeps."""
    return [one for one in (*op.reads(), *op.outputs) if not (one.is_constant or one.variable)]


@_rule(WRONG_TYPE, SEEN, "PosenetDecoderOp and TFLite_Detection_PostProcess in real logs",
       "leave it to the CPU, at the model's end", ("CUSTOM",))  # fmt: skip
def _custom(op: Op) -> bool:
    """Custom operators run on the CPU."""
    return False


@_rule(UNSUPPORTED, DOCUMENTED, CORAL, "rebuild it from operators of this page")
def _known(op: Op) -> bool:
    """The operator is one of this page."""
    return op.name in SUPPORTED


@_rule(WRONG_VERSION, SEEN, "five parse failures, all of operators of TensorFlow Lite 2.7 or later",
       "save it with the lowest version that its features need")  # fmt: skip
def _version(op: Op) -> bool:
    """The version is one that TensorFlow Lite before 2.7 runs."""
    return op_releases.readable(op.name, op.version)


@_rule(UNSPECIFIED, SEEN, "logs of compiler 16: a QUANTIZE of float input stays on the CPU",
       "give the model int8 or uint8 inputs", ("QUANTIZE",))  # fmt: skip
def _integer_input(op: Op) -> bool:
    """QUANTIZE turns one 8-bit type into another, no floats."""
    return all(one.dtype in EIGHT_BITS for one in op.reads())


@_rule(NOT_CONSTANT, DOCUMENTED, CORAL, "fold it to a constant", tuple(_CONSTANTS))
def _constants(op: Op) -> bool:
    """Weights, biases, shapes, axes and paddings are constants."""
    given = [op.inputs[i] for i in _CONSTANTS[op.name] if i < len(op.inputs)]
    return all(one is None or one.is_constant or 0 in one.shape for one in given)


@_rule(WRONG_TYPE, DOCUMENTED, CORAL, "quantize the model in full")
def _eight_bits(op: Op) -> bool:
    """What goes in and out is {types}, with a scale."""
    return all(
        one.dtype in EIGHT_BITS and one.quantization is not None and one.quantization.scales
        for one in data(op)
    )


@_rule(WRONG_RANK, DOCUMENTED, CORAL, "bring it to batch 1 and three dimensions")
def _rank(op: Op) -> bool:
    """Only the three innermost dimensions are greater than 1."""
    return all(math.prod(one.shape[:-3]) == 1 for one in data(op))


@_rule(UNSPECIFIED, SEEN, "files with a free batch are mapped as batch 1; README of the pairs: "
       "sizes are constant", "fix the shapes")  # fmt: skip
def _fixed(op: Op) -> bool:
    """Shapes are fixed; a free batch counts as 1."""
    return all(-1 not in one.signature[1:] for one in data(op))


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "make the activation an operator of its own",
       ("AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION"))  # fmt: skip
def _no_activation(op: Op) -> bool:
    """No activation is fused into it."""
    return op.activation == "NONE"


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "pad instead", ("CONCATENATION",))
def _constant_part(op: Op) -> bool:
    """With a constant among its inputs there are two, and the constant is all zeros."""
    constants = [one for one in op.reads() if one.is_constant]
    return not constants or (
        len(op.inputs) == 2 and len(constants) == 1 and not constants[0].real().any()
    )


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "dilate in both directions alike",
       ("CONV_2D", "DEPTHWISE_CONV_2D"))  # fmt: skip
def _dilation(op: Op) -> bool:
    """The dilation is the same in x and y."""
    return bool(op.option("dilation_w_factor") == op.option("dilation_h_factor"))


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "keep weights in the default format", ("FULLY_CONNECTED",))
def _weights_format(op: Op) -> bool:
    """Weights have the default format."""
    return bool(op.option("weights_format") == "DEFAULT")


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "compute row by row, or as a 1x1 convolution",
       ("FULLY_CONNECTED", "SOFTMAX"))  # fmt: skip
def _one_row(op: Op) -> bool:
    """The output has one dimension greater than 1, the last."""
    return math.prod(op.outputs[0].shape[:-1]) == 1


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "compute it on the CPU", ("SOFTMAX",))
def _softmax_size(op: Op) -> bool:
    """It has at most {largest} elements."""
    return op.outputs[0].elements <= LARGEST_SOFTMAX


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "reduce other axes", _REDUCTIONS)
def _not_over_batch(op: Op) -> bool:
    """The batch is not reduced."""
    return len(data(op)[0].shape) < 4 or 0 not in _axes(op)


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "pad the channels", ("MEAN",))
def _depth_step(op: Op) -> bool:
    """Where channels are reduced, their number is a multiple of {step}."""
    shape = data(op)[0].shape
    return len(shape) - 1 not in _axes(op) or shape[-1] % DEPTH_STEP == 0


@_rule(UNSPECIFIED, SEEN, "google-coral/edgetpu issue 461: 256x128 pixels stay on the CPU, 64x128"
       " are mapped; issue 183", "average tiles first", ("MEAN",))  # fmt: skip
def _mean_area(op: Op) -> bool:
    """It is taken over fewer than {area} pixels."""
    shape = data(op)[0].shape
    return len(shape) != 4 or math.prod(shape[i] for i in _axes(op) & {1, 2}) < MEAN_SEEN_LEFT


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "pad other axes", ("PAD",))
def _batch_unpadded(op: Op) -> bool:
    """The batch is not padded."""
    paddings = op.inputs[1]
    return len(op.outputs[0].shape) < 4 or paddings is None or not paddings.array()[0].any()


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "share alpha over height and width (shared_axes=[1, 2])",
       ("PRELU",))  # fmt: skip
def _alpha(op: Op) -> bool:
    """Alpha has one dimension greater than 1, the last."""
    alpha = op.inputs[1]
    return alpha is None or math.prod(alpha.shape[:-1]) == 1


@_rule(IMPRECISE, INFERRED, "DeepLab v3: a pooled 1x1 stretched to 33x33 stays on the CPU",
       "multiply with ones or repeat by concatenation instead", _RESIZES)  # fmt: skip
def _pixels_to_blend(op: Op) -> bool:
    """No side of one pixel is enlarged: there is nothing between pixels to blend."""
    before, after = data(op)[0].shape[1:3], op.outputs[0].shape[1:3]
    return all(old > 1 or new == 1 for old, new in zip(before, after, strict=False))


@_rule(UNSPECIFIED, INFERRED, "google-coral/edgetpu issues 31 and 187: 512 and 256 pixels wide fail"
       " where 128 pass", "resize fewer channels, or on the CPU at the end", _RESIZES)  # fmt: skip
def _resize_fits(op: Op) -> bool:
    """Its output fits the chip's activation memory of {chip} bytes."""
    return op.outputs[0].elements <= ON_CHIP


@_rule(STRIDES, DOCUMENTED, CORAL, "slice with a stride of 1", ("STRIDED_SLICE",))
def _unit_strides(op: Op) -> bool:
    """Strides are 1."""
    strides = op.inputs[3]
    return strides is None or bool((strides.array() == 1).all())


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "reshape instead", ("STRIDED_SLICE",))
def _masks(op: Op) -> bool:
    """No ellipsis and no new axis."""
    return not op.option("ellipsis_mask") and not op.option("new_axis_mask")


@_rule(UNSPECIFIED, DOCUMENTED, CORAL, "reshape instead", ("SQUEEZE",))
def _leading(op: Op) -> bool:
    """Only leading dimensions of 1 go."""
    shape = data(op)[0].shape
    gone = len(shape) - len(op.outputs[0].shape)
    return shape[gone:] == op.outputs[0].shape and math.prod(shape[:gone]) == 1


def _axes(op: Op) -> set[int]:
    rank, axes = len(data(op)[0].shape), op.inputs[1]
    return set() if axes is None else {int(axis) % rank for axis in axes.array().reshape(-1)}
