"""The names that a table of gates may hold, each with what it limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from edgepipe.errors import OptionError, UnknownName

FIXED = {
    "max-drop": "Loss against the float baseline, in the unit of the metric.",
    "min-agreement": "Share of samples with the same answer as the float baseline.",
    "min-sqnr": "Signal to noise against the float baseline, in dB.",
    "max-latency-ratio": "Median latency, candidate to baseline.",
    "max-latency": "Median latency in ms.",
    "max-p99": "99th percentile of the latency in ms.",
    "max-size": "Size of the model: bytes, or text as 512 KiB.",
    "max-memory": "Growth of the process's peak by loading and running.",
    "max-arena": "Memory of the tensors.",
    "min-mapped": "Share of operators on the chip, from 0 to 1.",
    "max-streamed-bytes": "Parameters that the Edge TPU's memory has no room for.",
    "max-energy": "Joules for one inference.",
    "max-drop-since": "Loss against what baseline.json accepted, in the unit of the metric.",
    "max-latency-growth": "Growth of the latency ratio since it was accepted, as a share.",
    "max-size-growth": "Growth of the size since it was accepted, as a share.",
}
OF_METRIC = re.compile(r"(min|max)-[a-z][a-z0-9-]*")
"""Of any metric that is measured: `min-top1`, `max-mae`."""
SINCE = ("max-drop-since", "max-latency-growth", "max-size-growth")
"""Those that are about the run that was accepted."""


def check(table: Mapping[str, Any], metrics: Iterable[str]) -> None:
    """Refuse what is no gate, and what is neither a number nor text."""
    known = {*FIXED, *(f"{end}-{name}" for name in metrics for end in ("min", "max"))}
    for name, value in table.items():
        if name not in known:
            raise UnknownName.of("gate", name, known)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise OptionError(
                f"{name} takes a number, or text as '0.5 points', received {value!r}",
                hint=FIXED.get(name, ""),
            )
