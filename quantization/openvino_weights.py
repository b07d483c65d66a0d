"""Stores an IR's weights in 8 or 4 bits by NNCF; activations and sums stay float."""

from __future__ import annotations

import importlib
import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgepipe.errors import OptionError, StageFailed

if TYPE_CHECKING:
    from .openvino_quantize import OpenvinoQuantizeOptions

SCHEMES = ("int8-weights", "int4-weights")
BITS = {"int8-weights": "INT8", "int4-weights": "INT4"}
SMALLER = (0.8, 0.6, 0.4, 0.2)
"""Shares of the layers in 4 bits that a repair tries; the others are given 8."""
MOST = 64
"""Samples that are kept at hand, for scales and for judging."""
INTEGERS = {"u8": 8, "i8": 8, "u4": 4, "i4": 4}


def check(options: OpenvinoQuantizeOptions) -> None:
    """What only 4 bits can be told is refused for the rest, and so is what makes no sense."""
    said = {
        "group_size": options.group_size is not None,
        "ratio": options.ratio != 1,
        "scale_estimation": options.scale_estimation,
        "all_layers": options.all_layers,
    }
    foreign = [name for name, given in said.items() if given]
    if options.scheme != "int4-weights" and foreign:
        raise OptionError(
            f"{', '.join(foreign)}: for --precision int4-weights, and this is {options.scheme}",
            hint="NNCF groups, mixes and estimates weights of 4 bits only.",
        )
    if options.symmetric and options.scheme not in SCHEMES:
        raise OptionError(
            f"symmetric is for the weights' precisions, and this is {options.scheme}",
            hint="-O openvino_quantize.preset=performance has symmetric activations.",
        )
    if not 0 <= options.ratio <= 1:
        raise OptionError(f"ratio takes a share from 0 to 1, received {options.ratio:g}")
    size = options.group_size
    if size is not None and size != -1 and size < 1:
        raise OptionError(
            f"group_size takes a number of weights, or -1 for a whole channel, received {size}"
        )


def compress(
    model: Any,
    options: OpenvinoQuantizeOptions,
    feeds: Sequence[dict[str, Any]],
) -> tuple[Any, list[str]]:
    """The compressed model and what was done; `feeds` are the calibration samples, or none."""
    from . import openvino_repair  # It needs numpy, which `check` of a kept run does not.

    if options.scale_estimation and not feeds:
        raise OptionError(
            "scale_estimation needs samples", hint="give some with --calibration DATA."
        )
    best = _made(model, options, options.ratio, options.scale_estimation, feeds)
    _check_smaller(best)
    notes: list[str] = []
    if not feeds or options.repair == "off":
        return best, [f"weights in {_words(best, options)}"]
    judged = feeds[: openvino_repair.LOOKED_INTO]
    best_db = openvino_repair.decibels(model, best, judged)
    goal = options.limit_db + openvino_repair.MARGIN_DB
    deadline = time.monotonic() + options.repair_seconds
    tries = [("estimated scales", options.ratio, True)] if not options.scale_estimation else []
    tries += [(f"{r:.0%} of the layers in 4 bits", r, True) for r in SMALLER if r < options.ratio]
    for name, ratio, estimated in tries if options.scheme == "int4-weights" else ():
        if best_db >= goal or time.monotonic() >= deadline:
            break
        start, before = time.monotonic(), best_db
        made = _made(model, options, ratio, estimated, feeds)
        db = openvino_repair.decibels(model, made, judged)
        kept = db > best_db + openvino_repair.WORTH_DB
        if kept:
            best, best_db = made, db
        notes.append(
            f"repair, {name}: {before:.1f} to {db:.1f} dB in {time.monotonic() - start:.1f} s,"
            f" {'kept' if kept else 'not kept'}"
        )
    return best, [f"weights in {_words(best, options)}", *notes]


def _made(
    model: Any,
    options: OpenvinoQuantizeOptions,
    ratio: float,
    estimated: bool,
    feeds: Sequence[dict[str, Any]],
) -> Any:
    nncf, errors = importlib.import_module("nncf"), importlib.import_module("nncf.errors")
    kind = f"{BITS[options.scheme]}_{'SYM' if options.symmetric else 'ASYM'}"
    how: dict[str, Any] = {}
    if options.scheme == "int4-weights":
        named = options.group_size is not None
        # Without a size of the user's, layers that 128 does not divide get the nearest that does.
        advanced = nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ERROR
            if named
            else nncf.GroupSizeFallbackMode.ADJUST
        )
        how = {
            "ratio": ratio,
            "group_size": options.group_size,
            "all_layers": options.all_layers,
            "advanced_parameters": advanced,
        }
        if estimated and feeds:
            how |= {
                "dataset": nncf.Dataset(list(feeds)),
                "subset_size": len(feeds),
                "scale_estimation": True,
            }
    spared = nncf.IgnoredScope(
        patterns=list(options.float_layers), types=list(options.float_types), validate=False
    )
    try:
        return nncf.compress_weights(
            model.clone(), mode=nncf.CompressWeightsMode[kind], ignored_scope=spared, **how
        )
    except (nncf.ValidationError, nncf.InternalError, errors.InvalidGroupSizeError) as error:
        raise StageFailed(
            f"NNCF {nncf.__version__} can't compress its weights: {error}",
            hint="-O openvino_quantize.group_size=-1 takes a scale for each channel, or leave it"
            " out, and each layer gets one that fits.",
        ) from error


def _bits(model: Any) -> Counter[int]:
    """Weights by their bits, as they are stored."""
    found: Counter[int] = Counter()
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant":
            continue
        kind = node.get_output_element_type(0)
        takers = [end.get_node().get_type_name() for end in node.output(0).get_target_inputs()]
        count = math.prod(node.get_output_shape(0))
        if kind.get_type_name() in INTEGERS and "Convert" in takers:
            found[INTEGERS[kind.get_type_name()]] += count
    return found


def _check_smaller(model: Any) -> None:
    if not _bits(model):
        raise StageFailed(
            "no weight was compressed: the model has no product, convolution or table whose"
            " weights NNCF stores in fewer bits, or float_layers and float_types spare them all"
        )


def _words(model: Any, options: OpenvinoQuantizeOptions) -> str:
    found = _bits(model)
    total = sum(found.values())
    told = " and ".join(f"{bits} bits ({found[bits] / total:.0%})" for bits in sorted(found))
    if options.scheme == "int4-weights" and 4 not in found:
        told += ": 4 are for products, and tables, convolutions and the last layer keep 8"
    return told
