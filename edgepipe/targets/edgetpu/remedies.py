"""Which rewrites of `edgepipe preflight --fix` may mend what a rule finds."""

from __future__ import annotations

from edgepipe.targets.edgetpu.rules import Rule
from edgepipe.tflite.graph import Op

OF_RULES = {
    "version": ("versions", "float_islands"),
    "integer_input": ("float_ends",),
    "constants": ("static_shapes",),
    "rank": ("ranks",),
    "fixed": ("static_shapes",),
    "no_activation": ("fused_activations",),
    "mean_area": ("large_means",),
    "pixels_to_blend": ("single_pixels",),
    "unit_strides": ("strided_slices",),
    "leading": ("views",),
}
"""By the name of the rule. `versions` is what writing a file does."""
OF_OPERATORS = {
    "HARD_SWISH": ("hard_swish",), "GELU": ("gelu",), "LEAKY_RELU": ("leaky_relu",),
    "PADV2": ("zero_padding",), "MIRROR_PAD": ("mirror_padding",),
    "GATHER": ("gathers", "upsampling"),
    "GATHER_ND": ("gathers", "upsampling"), "TILE": ("upsampling", "views"),
    "BROADCAST_TO": ("upsampling",), "SPLIT_V": ("views",), "UNPACK": ("views",),
    "SHAPE": ("static_shapes",), "DEQUANTIZE": ("float_ends",),
}  # fmt: skip
"""Of those that the compiler doesn't know."""


def fix_of(op: Op, rule: Rule) -> str:
    """What would help, with the rewrites that may do it."""
    names = rewrites_of(op, rule)
    return f"{rule.fix}; --fix may: {', '.join(names)}" if names else rule.fix


def rewrites_of(op: Op, rule: Rule) -> tuple[str, ...]:
    if rule.name == "known":
        return OF_OPERATORS.get(op.name, ())
    if rule.name == "one_row":
        return ("dense_rows",) if op.name == "FULLY_CONNECTED" else ()
    return OF_RULES.get(rule.name, ())
