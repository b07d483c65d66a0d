"""The contract of a metric: evidence of one sample, and the figure that many of them give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.errors import OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float64]

PERCENT = "%"
"""The unit of shares: their figures go from 0 to 100, differences of them are points."""


class Misfit(OptionError):
    """The metric says nothing of such an output, or of such a truth."""


class Metric(ABC):
    """One figure over samples. A statistic resamples the evidence, so that the model runs once.

    `see` is given one sample of one output, with its batch axis of 1, and what is true of it.
    Its row is short and of a fixed length, so that ten thousand of them fit in memory. A metric
    holds no state, so that samples may be seen in several processes.
    """

    name: str
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    needs_truth: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False
    """Whether it compares with the float model's output instead: agreement, SQNR, cosine."""
    truth: ClassVar[str] = "label"
    """What must be known of a sample: label, numbers, mask, boxes."""
    best: ClassVar[float | None] = None
    """The figure that none can exceed. No number of samples proves it."""
    averages_classes: ClassVar[bool] = False
    """Whether it needs samples of every class."""
    flips: ClassVar[bool] = False
    """Whether a sample is right or wrong and nothing between, so that many alike prove little."""
    toolchain: ClassVar[str] = ""
    """Where `weighted` must run; '' is anywhere, the parent too."""

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        """Why it says nothing of such an output, as the end of a sentence; '' if it does."""
        del shape, dtype
        return ""

    @abstractmethod
    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        """What this sample says, as a row of numbers."""

    @abstractmethod
    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        """The figure of each resample; `weights` says how often each of them holds each row.

        One line a resample, one column a row. Called with thousands of lines, so in one step. NaN
        where there is none: AUC without a positive sample.
        """

    def figure(self, rows: Rows) -> float:
        """The figure over samples, rows stacked."""
        import numpy as np

        return float(self.weighted(rows, np.ones((1, len(rows))))[0])

    def hits(self, rows: Rows) -> NDArray[np.bool_] | None:
        """Of each sample whether it is right, if the figure is their share in percent."""
        del rows
        return None

    def judges_baseline(self) -> bool:
        """Whether the float model's output has a figure of its own."""
        return not self.needs_reference

    def checked(self, output: NDArray[Any]) -> NDArray[Any]:
        """The output, if it fits."""
        if words := self.misfit(output.shape, str(output.dtype)):
            raise Misfit(f"{self.name} can't be measured: {words}")
        return output


def elements(shape: Sequence[int | None]) -> int | None:
    """How many numbers a sample has; None where that is open."""
    product = 1
    for size in shape[1:]:
        if size is None:
            return None
        product *= size
    return product


def is_vector(shape: Sequence[int | None]) -> bool:
    """Whether at most one axis beside the batch's is longer than 1."""
    return sum(size != 1 for size in shape[1:]) <= 1


def shape_words(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
