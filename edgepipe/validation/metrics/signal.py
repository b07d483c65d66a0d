"""How much of the float model's output is left: signal to noise, and the angle between both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.proof import PERFECT_DB
from edgepipe.validation.metrics.metric import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class _Energies(Metric):
    """What both are made of: energies, summed over all samples together."""

    needs_truth: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True

    def see(
        self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None
    ) -> NDArray[np.float64]:
        import numpy as np

        assert reference is not None
        a = reference.astype(np.float64).ravel()
        b = output.astype(np.float64).ravel()
        return np.array([a @ a, b @ b, a @ b, (a - b) @ (a - b)])


class Sqnr(_Energies):
    """Energy of the float output over that of the difference, in decibels."""

    name: ClassVar[str] = "sqnr"
    unit: ClassVar[str] = "dB"

    def figure(self, rows: NDArray[np.float64]) -> float:
        signal, noise = float(rows[:, 0].sum()), float(rows[:, 3].sum())
        if noise == 0:
            return PERFECT_DB
        if signal == 0 or not math.isfinite(noise):
            return -PERFECT_DB
        return max(-PERFECT_DB, min(PERFECT_DB, 10 * math.log10(signal / noise)))


class Cosine(_Energies):
    """Of the angle between the float output and the candidate's, over all samples."""

    name: ClassVar[str] = "cosine"

    def figure(self, rows: NDArray[np.float64]) -> float:
        length = math.sqrt(float(rows[:, 0].sum()) * float(rows[:, 1].sum()))
        return float(rows[:, 2].sum()) / length if length else 0.0
