"""Runs a float TFLite on samples and keeps what every tensor in it ranged over."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.errors import StageFailed
from edgepipe.runners.tflite import TfliteRunner
from edgepipe.tflite import reader

from . import calibration_methods, softmax_ranges
from .calibration_methods import Seen
from .histograms import Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.artifact import Artifact
    from edgepipe.runner import Tensors


class Observer(TfliteRunner):
    """LiteRT with the tensors between the operators left in memory, those of subgraphs too."""

    interpreter_options: ClassVar[dict[str, Any]] = {"experimental_preserve_all_tensors": True}

    def load(self) -> None:
        with warnings.catch_warnings():  # It warns of the memory that this takes: one sample's.
            warnings.simplefilter("ignore")
            super().load()
        self.softmaxes = softmax_ranges.sources(self.artifact.path)
        self.watched = [
            (tensor.name, index, number)
            for number, graph in enumerate(reader.read(self.artifact.path).subgraphs)
            for index, tensor in enumerate(graph.tensors)
            if not tensor.constant and tensor.dtype in ("float32", "int32", "int64", "bool")
        ]

    def observe(self, feeds: Tensors, seen: dict[str, Seen], histograms: bool) -> None:
        """Run one sample and add what it shows to `seen`."""
        self._feed(feeds)
        self._invoke()
        for name, index, graph in self.watched:
            values = self._values(index, graph)
            if values is None or not values.size:
                continue
            if name not in seen:
                wanted = histograms and values.dtype.kind == "f"
                rows = softmax_ranges.Rows() if name in self.softmaxes else None
                seen[name] = Seen(Histogram() if wanted else None, values.ndim, rows=rows)
            seen[name].add(values)
            del values  # A view into the interpreter, which refuses to run while one is held.

    def _values(self, index: int, graph: int) -> NDArray[Any] | None:
        """A view of a tensor of the main graph; a copy elsewhere. None where nothing was run."""
        try:
            found: NDArray[Any] = (
                self.interpreter.get_tensor(index, graph)
                if graph
                else self.interpreter.tensor(index)()
            )
        except ValueError:
            return None
        return found


def observe(
    model: Artifact, samples: Iterable[Tensors], method: str, threads: int = 0
) -> tuple[dict[str, Seen], int]:
    """What every tensor ranged over, by name, and on how many samples."""
    seen: dict[str, Seen] = {}
    count = 0
    histograms = calibration_methods.needs_histogram(method)
    with Observer(model, threads) as observer:
        assert isinstance(observer, Observer)
        for feeds in samples:
            observer.observe(feeds, seen, histograms)
            count += 1
    if not count:
        raise StageFailed("there was no sample to calibrate on")
    return seen, count
