"""Metrics by name: which there are, which fit an output, which are taken where none is named."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from edgepipe import catalog
from edgepipe.data.kind import names_function
from edgepipe.errors import SamplesError, UnknownName
from edgepipe.validation.metrics.classification import TopK
from edgepipe.validation.metrics.metric import Metric, Misfit
from edgepipe.validation.metrics.users import LOWER, UsersMetric

if TYPE_CHECKING:
    from edgepipe.artifact import Port

TOP_K = re.compile(r"top[-_]?([1-9]\d*)")


def named(name: str, **settings: Any) -> Metric:
    """`top1`, `mae`, any `topK`, `module:function`; the settings are those of the user's code."""
    if is_function(name):
        return UsersMetric(name, **settings)
    if name in catalog.METRICS:
        made: Metric = catalog.load(catalog.METRICS[name])()
        return made
    if match := TOP_K.fullmatch(name):
        return named("top1") if match[1] == "1" else TopK(int(match[1]))
    raise UnknownName.of("metric", name, [*catalog.METRICS, "top5"])


def is_function(name: str) -> bool:
    """Whether it is one of the user: `module:function`."""
    return names_function(name.removesuffix(LOWER))


def by_default(output: Port, labelled: bool, compared: bool) -> list[str]:
    """Accuracy where there are classes, and what compares with the baseline."""
    found = []
    if labelled:
        found += [name for name in ("top1", "binary-accuracy") if not misfit(named(name), output)]
    if compared:
        found += [name for name in ("agreement", "sqnr") if not misfit(named(name), output)]
    return found[:1] + [name for name in found[1:] if name != "binary-accuracy"]


def misfit(metric: Metric, output: Port) -> str:
    """Why a metric says nothing of an output, as its model declares it; '' if it may."""
    shape = output.given_shape()
    return "" if shape is None else metric.misfit(shape, output.dtype)


def check(
    metric: Metric,
    output: Port,
    *,
    labelled: bool,
    compared: bool,
    samples: int | None = None,
    truth: Collection[str] = ("label",),
) -> None:
    """Refuse a metric before anything runs; `truth` are the kinds that the samples' may be of."""
    if words := misfit(metric, output):
        others = fitting(output, labelled, compared, truth)
        raise Misfit(
            f"{metric.name} can't be measured of the output {output.name!r}: {words}",
            hint=f"of this output can be measured: {', '.join(others)}." if others else "",
            fitting=others,
        )
    if metric.needs_reference and not compared:
        raise Misfit(
            f"{metric.name} compares with the float model, and there is none",
            hint="name it with --against.",
        )
    if metric.needs_truth and (not labelled or metric.truth not in truth):
        raise SamplesError(
            f"{metric.name} needs to know what is true of each sample, and the data has no"
            f" {NAMES.get(metric.truth, metric.truth)}",
            hint="name them with --labels or --truth, or measure what needs none: agreement,"
            " sqnr, cosine.",
        )
    shape = output.given_shape() or ()
    classes = max((size or 0 for size in shape[1:]), default=0)
    if metric.averages_classes and samples is not None and samples < classes:
        raise SamplesError(
            f"{metric.name} is a mean over the classes, and {samples} samples can't hold all of"
            f" {classes}",
            hint=f"give {classes} samples at least, better 30 of each class, or measure top1.",
        )


NAMES = {
    "label": "labels",
    "numbers": "numbers to compare with",
    "mask": "masks",
    "boxes": "boxes",
}


def fitting(output: Port, labelled: bool, compared: bool, truth: Collection[str]) -> list[str]:
    """Names of those that say something of an output, with what is known of the samples."""
    found = []
    for name in catalog.METRICS:
        metric = named(name)
        possible = compared if metric.needs_reference else labelled and metric.truth in truth
        if possible and not misfit(metric, output):
            found.append(name)
    return found


def names() -> Sequence[str]:
    return [*catalog.METRICS, "topK"]
