"""Which metrics are measured on which outputs: those that were named, or all that apply."""

from __future__ import annotations

from collections.abc import Sequence

from edgepipe.artifact import Port, Signature
from edgepipe.errors import UnknownName
from edgepipe.validation.evaluating import Data
from edgepipe.validation.metrics import by_name
from edgepipe.validation.metrics.planned import Planned


def planned(
    names: Sequence[str],
    ends: Signature,
    data: Data,
    compared: bool,
    limited: Sequence[str] = (),
) -> tuple[Planned, ...]:
    """`names` are `top1` or `top1@output`; without any, what the outputs and labels allow.

    `limited` are those that limits are about, which are measured anyway.
    """
    chosen = [one for name in names for one in _named(name, ends)]
    if not names:
        chosen = [one for port in ends.outputs for one in _fitting(port, data, compared)]
    there = {one.name for one in chosen}
    chosen += [one for name in limited if name not in there for one in _named(name, ends)]
    found = tuple({(one.name, one.output): one for one in chosen}.values())
    ports = {port.name: port for port in ends.outputs}
    for one in found:
        by_name.check(
            one.metric,
            ports[one.output],
            labelled=data.labelled,
            compared=compared,
            samples=data.count,
        )
    return found


def _named(text: str, ends: Signature) -> list[Planned]:
    """Of several outputs, those that the metric fits; where it fits none, the first says why."""
    name, _, output = text.partition("@")
    known = [port.name for port in ends.outputs]
    if output and output not in known:
        raise UnknownName.of("output of the model", output, known)
    metric = by_name.named(name)
    ports = [port for port in ends.outputs if output in ("", port.name)]
    fitting = [port for port in ports if not by_name.misfit(metric, port)]
    return [Planned(name, port.name) for port in fitting or ports[:1]]


def _fitting(port: Port, data: Data, compared: bool) -> list[Planned]:
    shape = port.given_shape() or ()
    classes = max((size or 1 for size in shape[1:]), default=1)
    labelled = data.labelled and _labels_fit(data, max(2, classes))
    return [Planned(name, port.name) for name in by_name.by_default(port, labelled, compared)]


def _labels_fit(data: Data, classes: int) -> bool:
    labels = [label for label in data.labels or () if label is not None]
    return bool(labels) and min(labels) >= 0 and max(labels) < classes
