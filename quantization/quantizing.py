"""One prepared float TFLite, quantized under any options as often as is wanted."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
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
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

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
        few: Sequence[Sequence[NDArray[Any]]] = (),
        folder: Path = Path(),
    ) -> None:
        """`few` are feeds as the file wants them, for what is learnt beside ranges."""
        self.given = self.artifact = artifact
        self.samples = 0
        self.closed = 0
        self.few = few
        self._folder = folder
        self._form = (False, False)
        self._feeds = feeds
        self._seen: dict[str, Seen] = {}
        self._method = ""

    def write(self, options: QuantizeOptions, path: Path) -> Path:
        """The quantized file."""
        if options.scheme in catalog.CALIBRATED:
            self.prepare(options)
        self._write(self.artifact.path, options, path)
        if options.bias_correction and options.scheme in catalog.CALIBRATED:
            corrected = self._folder / "corrected.tflite"
            if bias_correction.correct(self.artifact.path, path, self.few, corrected):
                self._write(corrected, options, path)
            corrected.unlink()
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
        self._form, self._seen, self._method = wanted, {}, ""
        self.artifact = self.given
        for asked, change, name in (
            (options.split_concats, concat_split.split, SPLIT),
            (options.equalize, equalization.equalize, EQUALIZED),
        ):
            out = self._folder / name
            if asked and change(self.artifact.path, self.few, out):
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
        ranges = {}
        for name, one in self._seen.items():
            if one.samples:
                low, high = calibration_methods.range_of(one, options.ranges, options.percentile)
                shape = (1,) * one.rank
                ranges[name] = {
                    "min": np.full(shape, low, np.float32),
                    "max": np.full(shape, high, np.float32),
                }
        return ranges
