"""Which metrics are measured on which outputs: those that were named, or all that apply."""

from __future__ import annotations

from typing import Any

from edgepipe.artifact import Port, Signature
from edgepipe.code_digest import code_digest
from edgepipe.errors import TrustRequired, UnknownName
from edgepipe.validation import limits
from edgepipe.validation.asked import Asked
from edgepipe.validation.evaluating import Data
from edgepipe.validation.metrics import by_name
from edgepipe.validation.metrics.planned import Planned
from edgepipe.validation.metrics.users import LOWER
from edgepipe.validation.sight import Sight

BY_TRUTH = {
    "boxes": ("map",),
    "mask": ("miou",),
    "label": ("top1",),
    "numbers": ("mae", "r2"),
}


def planned(
    ends: Signature,
    data: Data,
    compared: bool,
    asked: Asked,
    sight: Sight,
) -> tuple[Planned, ...]:
    """Of `top1` or `top1@output` the metrics; without any, what the outputs and labels allow.

    Those that limits are about are measured anyway.
    """
    chosen = [one for name in asked.metrics for one in _named(name, ends, asked)]
    if not asked.metrics:
        chosen = [one for port in ends.outputs for one in _fitting(port, data, compared, sight)]
    there = {one.metric.name for one in chosen}
    limited = [name for name in limits.metrics(asked.limits) if name not in there]
    chosen += [one for name in limited for one in _named(name, ends, asked)]
    found = tuple({(one.name, one.output): one for one in chosen}.values())
    ports = {port.name: port for port in ends.outputs}
    for one in found:
        by_name.check(
            one.metric,
            ports[one.output],
            labelled=bool(sight.kinds(data)),
            compared=compared,
            samples=data.count,
            truth=sight.kinds(data),
        )
    return found


def _named(text: str, ends: Signature, asked: Asked) -> list[Planned]:
    """Of several outputs, those that the metric fits; where it fits none, the first says why."""
    name, _, output = text.partition("@")
    known = [port.name for port in ends.outputs]
    if output and output not in known:
        raise UnknownName.of("output of the model", output, known)
    settings = _users(name, asked) if by_name.is_function(name) else {}
    metric = by_name.named(name, **settings)
    ports = [port for port in ends.outputs if output in ("", port.name)]
    fitting = [port for port in ports if not by_name.misfit(metric, port)]
    return [Planned(name, port.name, settings) for port in fitting or ports[:1]]


def _users(name: str, asked: Asked) -> dict[str, Any]:
    if not asked.request.trust:
        raise TrustRequired(
            f"{name} is code, and measuring would run it", hint="if you trust it, add --trust."
        )
    path = [str(folder) for folder in asked.request.python_path]
    return {"python_path": path, "digest": code_digest([name.removesuffix(LOWER)], path)}


def _fitting(port: Port, data: Data, compared: bool, sight: Sight) -> list[Planned]:
    """Of a truth that is given beside the labels the first metrics that can be measured with it."""
    if sight.truth:
        kinds = sight.kinds(data)
        wanted = next(kind for kind in BY_TRUTH if kind in kinds)
        named = [name for name in BY_TRUTH[wanted] if not by_name.misfit(by_name.named(name), port)]
        named += by_name.by_default(port, False, compared)
        return [Planned(name, port.name) for name in named]
    shape = port.given_shape() or ()
    classes = max((size or 1 for size in shape[1:]), default=1)
    labelled = data.labelled and _labels_fit(data, max(2, classes))
    return [Planned(name, port.name) for name in by_name.by_default(port, labelled, compared)]


def _labels_fit(data: Data, classes: int) -> bool:
    labels = [label for label in data.labels or () if label is not None]
    return bool(labels) and min(labels) >= 0 and max(labels) < classes
