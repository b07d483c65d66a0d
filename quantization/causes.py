"""Why a layer loses accuracy, in words, and what helps: one function a cause.

Each looks at one finding and says nothing, or what it saw. `COSTS` lists those that explain a
layer's own error, the likeliest first; `HINTS` are worth saying of any layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .layer_errors import LayerError
from .layer_facts import Activation, WeightFacts

OUTLIER_SPREAD = 10.0
STRETCH = 4.0
UNLIKE_RANGES = 8.0
WIDE_SOFTMAX = 32.0
"""A step of an eighth before the exponential: 13 % of error in what comes out."""
SATURATED = 0.001
BEYOND = 0.05
"""Of the calibrated width; closer than this, cutting costs less than a wider step would."""
WASTED = 4.0
SMALL_DIFFERENCE = 8.0


@dataclass(frozen=True)
class Cause:
    name: str
    words: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        return vars(self)


@dataclass
class Finding:
    """A layer with all that was seen of it."""

    error: LayerError
    weights: WeightFacts | None
    inputs: list[Activation]
    output: Activation
    held: tuple[float, float] | None
    """The range that the output can hold in integers."""
    share: float | None = None
    causes: list[Cause] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return str(self.error.layer.op.label)


def stays_float(finding: Finding) -> Cause | None:
    if finding.error.layer.integer:
        return None
    return Cause(
        "stays in float",
        f"{finding.kind} was left in float, between conversions from and to integers",
        "rewrite or fuse the operator; integer-only chips can't run it",
    )


def range_too_small(finding: Finding) -> Cause | None:
    seen, held = finding.output, finding.held
    if held is None or not seen.seen or seen.saturation < SATURATED:
        return None
    width = held[1] - held[0]
    if max(held[0] - seen.low, seen.high - held[1]) < BEYOND * width:
        return None
    return Cause(
        "saturated",
        f"{seen.saturation:.1%} of its values lie outside the calibrated range"
        f" [{held[0]:.3g}, {held[1]:.3g}]; seen: [{seen.low:.3g}, {seen.high:.3g}]",
        "more, or more typical, calibration samples; a method that cuts less than percentile",
    )


def unlike_parts(finding: Finding) -> Cause | None:
    parts = [part.largest for part in finding.inputs if part.seen and part.largest > 0]
    if finding.kind not in ("CONCATENATION", "PACK") or len(parts) < 2:
        return None
    if max(parts) < UNLIKE_RANGES * min(parts):
        return None
    return Cause(
        "one scale for unlike ranges",
        f"it joins parts of {_list(sorted(parts))} under one scale: the smallest gets"
        f" {max(1, round(255 * min(parts) / max(parts)))} of 255 steps",
        "split the outputs, or bring the parts to one range (boxes as shares of the image)",
    )


def wide_softmax(finding: Finding) -> Cause | None:
    if finding.kind != "SOFTMAX" or not finding.inputs or not finding.inputs[0].seen:
        return None
    width = finding.inputs[0].high - finding.inputs[0].low
    if width < WIDE_SOFTMAX:
        return None
    return Cause(
        "wide softmax input",
        f"its input spans {width:.3g}, so one of 255 steps is {width / 255:.2g} before the"
        " exponential",
        "keep the layer before it in int16, or clip logits far below the largest",
    )


def outlier_channels(finding: Finding) -> Cause | None:
    seen = finding.output
    if not seen.seen or seen.channel_spread < OUTLIER_SPREAD:
        return None
    return Cause(
        "outlier channels",
        f"its largest channel is {seen.channel_spread:.0f} times the median one, and all share a"
        " scale",
        "cross-layer equalization; int16 activations for this layer",
    )


def small_rows(finding: Finding) -> Cause | None:
    seen = finding.output
    if not seen.seen or seen.row_spread < UNLIKE_RANGES:
        return None
    return Cause(
        "a row far smaller than the others",
        f"the smallest row of the sequence (a class token?) is {seen.row_spread:.0f} times smaller"
        " than the median one, under one scale",
        "int16 activations for this layer and what normalizes it",
    )


def stretched_range(finding: Finding) -> Cause | None:
    seen = finding.output
    if not seen.seen or seen.stretch < STRETCH:
        return None
    return Cause(
        "a few large values",
        f"99.9 % of its values are below {seen.bulk:.3g}, the largest is {seen.largest:.3g}",
        "calibrate with percentile or mse",
    )


def wasted_range(finding: Finding) -> Cause | None:
    seen, held = finding.output, finding.held
    if held is None or not seen.seen or seen.high <= seen.low:
        return None
    if held[1] - held[0] < WASTED * (max(seen.high, 0.0) - min(seen.low, 0.0)):
        return None
    return Cause(
        "range too wide",
        f"it holds [{held[0]:.3g}, {held[1]:.3g}] and uses [{seen.low:.3g}, {seen.high:.3g}]",
        "calibrate on samples of the same preprocessing; percentile or mse",
    )


def outlier_weights(finding: Finding) -> Cause | None:
    weights = finding.weights
    if weights is None or weights.per_channel or weights.spread < OUTLIER_SPREAD:
        return None
    return Cause(
        "outlier weights",
        f"its largest channel of weights is {weights.spread:.0f} times the median one, under one"
        " scale",
        "per-channel weights, or cross-layer equalization",
    )


def small_difference(finding: Finding) -> Cause | None:
    if finding.kind not in ("SUB", "ADD") or not finding.output.seen:
        return None
    largest = max((part.largest for part in finding.inputs if part.seen), default=0.0)
    if finding.output.largest <= 0 or largest < SMALL_DIFFERENCE * finding.output.largest:
        return None
    return Cause(
        "a small difference of large numbers",
        f"inputs up to {largest:.3g} leave {finding.output.largest:.3g}",
        "int16 activations for this layer, or fuse the pieces (layer normalization)",
    )


def in_pieces(finding: Finding) -> Cause | None:
    if finding.kind not in ("RSQRT", "SQUARED_DIFFERENCE", "SQRT", "DIV", "POW", "EXP"):
        return None
    return Cause(
        "a piece of a larger operator",
        f"{finding.kind} has a steep curve, which 255 steps follow badly",
        "int16 activations here, or let a converter keep the operator whole",
    )


def dead_channels(finding: Finding) -> Cause | None:
    seen = finding.output
    if seen.channels is None or not seen.dead_channels or finding.weights is None:
        return None
    return Cause(
        "dead channels",
        f"{seen.dead_channels} of {len(seen.channels)} channels are zero on every sample",
        "prune them, or look whether the samples are typical",
    )


COSTS: Sequence[Callable[[Finding], Cause | None]] = (
    stays_float,
    range_too_small,
    unlike_parts,
    wide_softmax,
    outlier_weights,
    small_difference,
    outlier_channels,
    small_rows,
    stretched_range,
    wasted_range,
    in_pieces,
)
HINTS: Sequence[Callable[[Finding], Cause | None]] = (dead_channels,)


def explain(finding: Finding) -> list[Cause]:
    return [cause for rule in (*COSTS, *HINTS) if (cause := rule(finding)) is not None]


def of_inputs(
    names: Sequence[str],
    seen: Sequence[Activation],
    held: Sequence[tuple[float, float] | None],
) -> list[Cause]:
    """Samples that don't fit what the model was calibrated on: nothing behind can be right."""
    found = []
    for name, activation, limits in zip(names, seen, held, strict=True):
        if limits is None or not activation.seen:
            continue
        width = limits[1] - limits[0]
        used = max(activation.high, 0.0) - min(activation.low, 0.0)
        if activation.saturation > 0.01:
            how = f"{activation.saturation:.0%} of its values lie outside"
        elif width > WASTED * used > 0:
            how = f"its values fill only {used / width:.1%} of it"
        else:
            continue
        found.append(
            Cause(
                "preprocessing doesn't match",
                f"input {name!r} was calibrated on [{limits[0]:.3g}, {limits[1]:.3g}], the samples"
                f" are in [{activation.low:.3g}, {activation.high:.3g}]: {how}",
                "give calibration and samples the same mean, std and scale",
            )
        )
    return found


def of_calibration(findings: Sequence[Finding]) -> list[Cause]:
    """Whether ranges were still growing when the calibration ended."""
    held = [one for one in findings if one.held is not None and one.output.seen]
    over = [one for one in held if range_too_small(one) is not None]
    if len(held) < 4 or len(over) < max(2, len(held) // 10):
        return []
    return [
        Cause(
            "too few calibration samples",
            f"{len(over)} of {len(held)} layers saturate on samples that were not used for"
            " calibration",
            "calibrate on more samples, and on ones of the same kind",
        )
    ]


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values[:4])


def to_json(finding: Finding) -> dict[str, Any]:
    error = finding.error
    return {
        "layer": error.layer.name,
        "op": finding.kind,
        "index": error.layer.index,
        "own_sqnr_db": None if error.failed else round(error.own.sqnr_db, 2),
        "own_cosine": None if error.failed else round(error.own.cosine, 6),
        "share": None if finding.share is None else round(finding.share, 5),
        "final_sqnr_db": {name: round(one.sqnr_db, 2) for name, one in error.final.items()},
        "not_measured": error.failed,
        "weights": None if finding.weights is None else finding.weights.to_json(),
        "output": finding.output.to_json(),
        "calibrated": finding.held,
        "causes": [cause.to_json() for cause in finding.causes],
    }
