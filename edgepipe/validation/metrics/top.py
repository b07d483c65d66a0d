"""How often the true class is the one with the largest score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.validation.metrics.metric import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Top1(Metric):
    """One row of scores a sample; of equal scores the first counts."""

    name: ClassVar[str] = "top1"
    unit: ClassVar[str] = "%"

    def see(
        self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None
    ) -> NDArray[np.float64]:
        import numpy as np

        return np.array([float(output.argmax() == truth)])

    def figure(self, rows: NDArray[np.float64]) -> float:
        return 100.0 * float(rows[:, 0].mean())
