"""A metric with the output that it looks at, as plain data: it goes to workers and into keys."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from edgepipe.validation.metrics.by_name import named
from edgepipe.validation.metrics.metric import Metric


@dataclass(frozen=True)
class Planned:
    """`name` is one that `by_name.named` knows."""

    name: str
    output: str
    settings: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def metric(self) -> Metric:
        return named(self.name, **self.settings)

    def opened(self) -> Planned:
        """With its metric made now, so that a wrong setting is met before any sample is run."""
        _ = self.metric
        return self

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "output": self.output, "settings": self.settings}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Planned:
        return Planned(**data)
