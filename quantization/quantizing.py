"""One prepared float TFLite, quantized under any options as often as is wanted."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe import catalog
from edgepipe.artifact import Artifact
from edgepipe.errors import StageFailed

from . import aeq_recipe, calibration, calibration_methods, integer_islands

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepipe.runner import Tensors

    from .calibration_methods import Seen
    from .tflite_quantize import QuantizeOptions

    Feeds = Callable[[], Iterator[Tensors]]

WITH_HISTOGRAMS = "mse"
"""A method that needs them; what it saw serves all other methods as well."""


class Quantizing:
    """Calibrates when a method is first asked for; `closed` counts what became integer after."""

    def __init__(self, artifact: Artifact, feeds: Feeds | None) -> None:
        self.artifact = artifact
        self.samples = 0
        self.closed = 0
        self._feeds = feeds
        self._seen: dict[str, Seen] = {}
        self._method = ""

    def write(self, options: QuantizeOptions, path: Path) -> Path:
        """The quantized file."""
        ranges = self._ranges(options) if options.scheme in catalog.CALIBRATED else None
        quantizer = importlib.import_module("ai_edge_quantizer.quantizer").Quantizer(
            str(self.artifact.path)
        )
        aeq_recipe.load(quantizer, options)
        made = quantizer.quantize(ranges, enable_progress_report=False).quantized_model
        path.write_bytes(made)
        self.closed = integer_islands.close(path) if options.scheme == "int8" else 0
        return path

    def observe(self, method: str) -> None:
        """See what the method needs, if that wasn't seen yet."""
        averaged = "moving-average" in (method, self._method)
        enough = self._method == method or (
            not averaged
            and self._method
            and (
                calibration_methods.needs_histogram(self._method)
                or not calibration_methods.needs_histogram(method)
            )
        )
        if enough:
            return
        if self._feeds is None:
            raise StageFailed("integers need samples to calibrate on")
        self._seen, self.samples = calibration.observe(self.artifact, self._feeds(), method)
        self._method = method

    def _ranges(self, options: QuantizeOptions) -> dict[str, Any]:
        """The range of each tensor as the quantizer wants it."""
        self.observe(options.method)
        ranges = {}
        for name, one in self._seen.items():
            if one.samples:
                low, high = calibration_methods.range_of(one, options.method, options.percentile)
                shape = (1,) * one.rank
                ranges[name] = {
                    "min": np.full(shape, low, np.float32),
                    "max": np.full(shape, high, np.float32),
                }
        return ranges
