"""The names that a table of gates may hold, each with what it limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgepipe.validation import limits

FIXED = {
    **limits.LEVELS,
    **{name: words for name, (_, words) in limits.COSTS.items()},
    "min-agreement": "the share of samples with the same answer as the float model's",
    "min-sqnr": "signal to noise beside the float model, in dB",
}
OF_METRIC = re.compile(r"(min|max|max-drop|max-drop-since)-[a-z][a-z0-9_.:-]*")
"""Of any metric that is measured: `min-top1`, `max-mae`, `max-drop-f1`."""
SINCE = limits.SINCE


def check(table: Mapping[str, Any]) -> None:
    """Refuse what is no gate, and what is neither a number nor text."""
    limits.read(table)
