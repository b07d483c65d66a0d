"""Which metrics are measured on which outputs: those that were named, or all that apply."""

from __future__ import annotations

from collections.abc import Sequence

from edgepipe import catalog
from edgepipe.artifact import Port, Signature
from edgepipe.errors import OptionError, SamplesError, UnknownName
from edgepipe.validation.differing import is_row_of_scores
from edgepipe.validation.evaluating import Data
from edgepipe.validation.metrics.planned import Planned


def planned(
    names: Sequence[str], ends: Signature, data: Data, compared: bool
) -> tuple[Planned, ...]:
    """`names` are `top1` or `top1@output`; without any, what the outputs and labels allow."""
    if names:
        found = tuple(one for name in names for one in _named(name, ends))
    else:
        found = tuple(one for port in ends.outputs for one in _fitting(port, data, compared))
    for one in found:
        _check(one, data, compared)
    return found


def _named(text: str, ends: Signature) -> list[Planned]:
    name, _, output = text.partition("@")
    known = [port.name for port in ends.outputs]
    if output and output not in known:
        raise UnknownName.of("output of the model", output, known)
    catalog.metric(name)
    ports = [port for port in ends.outputs if output in ("", port.name)]
    if name.startswith("top") and not output:
        ports = [port for port in ports if is_row_of_scores(port.given_shape(), port.dtype)]
        if not ports:
            raise OptionError(
                f"--metric {name}: no output of the model is one row of scores",
                hint=f"its outputs are {', '.join(known)}.",
            )
    return [Planned(name, port.name) for port in ports]


def _fitting(port: Port, data: Data, compared: bool) -> list[Planned]:
    found = []
    shape = port.given_shape()
    scores = is_row_of_scores(shape, port.dtype)
    if data.labelled and scores and _labels_fit(data, max(size or 1 for size in shape or ())):
        found.append(Planned("top1", port.name))
    if compared:
        if scores or not port.dtype.startswith("float"):
            found.append(Planned("agreement", port.name))
        if port.dtype.startswith("float"):
            found += [Planned("sqnr", port.name), Planned("cosine", port.name)]
    return found


def _labels_fit(data: Data, classes: int) -> bool:
    labels = [label for label in data.labels or () if label is not None]
    return bool(labels) and min(labels) >= 0 and max(labels) < classes


def _check(one: Planned, data: Data, compared: bool) -> None:
    metric = catalog.metric(one.name)
    if metric.needs_truth and not data.labelled:
        raise SamplesError(
            f"the metric {one.name} needs labels, and the data has none",
            hint="give them with --labels, or sort the files into a folder for each class.",
        )
    if metric.needs_reference and not compared:
        raise OptionError(
            f"the metric {one.name} compares with the float model, and none was named",
            hint="name it with --against MODEL.",
        )
