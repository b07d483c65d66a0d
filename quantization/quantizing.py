"""One prepared float TFLite, quantized under any options as often as is wanted."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe import catalog
from edgepipe.artifact import Artifact
from edgepipe.errors import StageFailed

from . import (
    aeq_recipe,
    bias_correction,
    calibration,
    calibration_methods,
    concat_split,
    equalization,
    integer_ends,
    integer_islands,
    rounding,
    softmax_ranges,
)
from .sample_choice import Chosen

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepipe.runner import Tensors

    from .calibration_methods import Seen
    from .tflite_quantize import QuantizeOptions

    Feeds = Callable[[], Iterator[Tensors]]

WITH_HISTOGRAMS = "mse"
"""A method that needs them; what it saw serves all other methods as well."""
SPLIT, EQUALIZED = "split.tflite", "equalized.tflite"
"""The float model in other forms, beside the result while it is made."""


class Quantizing:
    """Calibrates when a method is first asked for; `closed` counts what became integer after."""

    def __init__(
        self,
        artifact: Artifact,
        feeds: Feeds | None,
        chosen: Chosen | None = None,
        folder: Path = Path(),
    ) -> None:
        """`chosen` are samples for what is learnt beside ranges."""
        self.given = self.artifact = artifact
        self.samples = 0
        self.closed = 0
        self.chosen = chosen or Chosen()
        self._folder = folder
        self._form = (False, False)
        self._feeds = feeds
        self._seen: dict[str, Seen] = {}
        self._softmaxes: dict[str, tuple[float, float]] = {}
        self._method = ""

    def write(self, options: QuantizeOptions, path: Path, deadline: float = math.inf) -> Path:
        """The quantized file; what takes long is given up at the deadline."""
        if options.scheme in catalog.CALIBRATED:
            self.prepare(options)
        self._write(self.artifact.path, options, path)
        if options.bias_correction and options.scheme in catalog.CALIBRATED:
            corrected = self._folder / "corrected.tflite"
            if bias_correction.correct(self.artifact.path, path, self.chosen.few, corrected):
                self._write(corrected, options, path)
            corrected.unlink()
        if options.adaptive_rounding and options.scheme in catalog.CALIBRATED:
            rounding.round_anew(self.artifact.path, path, self.chosen.learnt, path, deadline)
        return path

    def _write(self, source: Path, options: QuantizeOptions, path: Path) -> None:
        ranges = self._ranges(options) if options.scheme in catalog.CALIBRATED else None
        quantizer = importlib.import_module("ai_edge_quantizer.quantizer").Quantizer(str(source))
        aeq_recipe.load(quantizer, options)
        made = quantizer.quantize(ranges, enable_progress_report=False).quantized_model
        path.write_bytes(made)
        self.closed = 0
        if options.scheme == "int8":
            seen = {
                name: (float(one["min"].item()), float(one["max"].item()))
                for name, one in (ranges or {}).items()
            }
            self.closed = integer_islands.close(path, seen)
        integer_ends.mend(path, options.ends())

    def prepare(self, options: QuantizeOptions) -> None:
        """Go on with the float model as the options want it; each form has ranges of its own."""
        wanted = (options.split_concats, options.equalize)
        if wanted == self._form:
            return
        self._form, self._seen, self._softmaxes, self._method = wanted, {}, {}, ""
        self.artifact = self.given
        for asked, change, name in (
            (options.split_concats, concat_split.split, SPLIT),
            (options.equalize, equalization.equalize, EQUALIZED),
        ):
            out = self._folder / name
            if asked and change(self.artifact.path, self.chosen.few, out):
                self.artifact = replace(self.artifact, path=out)

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
        self.observe(options.ranges)
        read_by_softmax = self._before_softmax(options)
        ranges = {}
        for name, one in self._seen.items():
            if one.samples:
                low, high = read_by_softmax.get(name) or calibration_methods.range_of(
                    one, options.ranges, options.percentile
                )
                shape = (1,) * one.rank
                ranges[name] = {
                    "min": np.full(shape, low, np.float32),
                    "max": np.full(shape, high, np.float32),
                }
        return ranges

    def _before_softmax(self, options: QuantizeOptions) -> dict[str, tuple[float, float]]:
        """Ranges for eight bits, of which none are needed where there are sixteen."""
        if not options.softmax_ranges or options.symmetric or options.scheme != "int8":
            return {}
        found = {}
        wider = [*options.int16_layers, *options.float_layers]
        for name, (beta, names) in softmax_ranges.sources(self.artifact.path).items():
            rows = self._seen[name].rows if name in self._seen else None
            if rows is None or any(re.search(one, f"{name};") for one in wider):
                continue
            if name not in self._softmaxes and (best := rows.range(beta)) is not None:
                self._softmaxes[name] = best
            if name in self._softmaxes:
                found.update(dict.fromkeys(names, self._softmaxes[name]))
        return found
