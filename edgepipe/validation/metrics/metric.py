"""The contract of a metric: evidence of one sample, and the figure that many of them give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Metric(ABC):
    """One figure over samples. A statistic resamples the evidence, so that the model runs once.

    `see` is given one sample of one output, with its batch axis of 1, and what is true of it.
    Its row is short and of a fixed length, so that ten thousand of them fit in memory. Metrics
    whose evidence varies in length (detection) keep it themselves and override `figure`.
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    needs_truth: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False
    """Whether it compares with the float model's output instead: agreement, SQNR, cosine."""

    @abstractmethod
    def see(
        self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None
    ) -> NDArray[np.float64]:
        """What this sample says, as a row of numbers."""

    @abstractmethod
    def figure(self, rows: NDArray[np.float64]) -> float:
        """The figure over samples, rows stacked; called thousands of times on resampled rows."""

    def figures(
        self, rows: NDArray[np.float64], resamples: Sequence[NDArray[np.intp]]
    ) -> NDArray[np.float64]:
        """The figure of each resample; overridden where it goes faster in one step."""
        import numpy as np

        return np.array([self.figure(rows[taken]) for taken in resamples])
