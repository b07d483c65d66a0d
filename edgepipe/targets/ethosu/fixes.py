"""What helps against each of Vela's reasons to leave an operator to the CPU."""

from __future__ import annotations

from edgepipe.targets.ethosu.vela_words import Fallback

FIXES = (
    (
        "DataType Float32",
        "it is float: quantize the model in full (no float layers of a repair, no --allow-float),"
        " with --io int8 for its ends",
    ),
    ("DataType", "quantize it to int8, or to int16 where the chip takes that"),
    (
        "Reduction over depth",
        "bring height and width into one dimension around it, which changes no value: edgepipe"
        " does that by itself when it compiles (legalise)",
    ),
    ("constant shape", "fix every shape before quantizing: --input NAME=1x..."),
    ("can be dynamic", "fix every shape before quantizing: --input NAME=1x..."),
    ("Batch must be 1", "convert with a batch of 1: --input NAME=1x..."),
    ("quantization parameters", "calibrate it: its ends have no scale"),
    ("must be constant", "fold it to a constant, or compute it on the CPU at the model's end"),
    ("Reduced axis must be", "reduce in two steps, each within what is allowed"),
    ("Stride values", "use strides of 1 or 2, or 3 on the newer chips"),
    ("Kernel", "use a smaller kernel, or two after each other"),
    ("kernel", "use a smaller kernel, or two after each other"),
    ("Scale-factor", "resize by 2, 4 or 8, in steps"),
    ("scale-factor", "resize by 2, 4 or 8, in steps"),
    ("Per-axis quantization", "quantize its activations with one scale"),
    (
        "Unsupported opType",
        "no Ethos-U of this family has it: rebuild it of operators that it has, or move it to"
        " an end of the model",
    ),
)
"""Part of a reason or a constraint -> what helps; the first that fits counts."""
OTHERWISE = "change it so that the constraint holds, or move it to an end of the model"
UNTOLD = "Vela left it there without a reason"


ENDS = ("QUANTIZE", "DEQUANTIZE")
AT_AN_END = (
    "floats come from it or go to it: quantize the model in full, with --io int8 for its ends, and"
    " feed and take integers"
)
CUSTOM = "a custom operator runs where the firmware brings code for it: the CPU"


def fix_for(found: Fallback) -> str:
    """What helps against the reason that was given, or against none."""
    if found.op.startswith("CUSTOM"):
        return CUSTOM
    if found.op in ENDS:
        return AT_AN_END
    told = f"{found.reason} {found.constraint}"
    return next((fix for part, fix in FIXES if part in told), OTHERWISE)
