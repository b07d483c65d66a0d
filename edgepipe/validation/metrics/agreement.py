"""How often the candidate names the same class as the float model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.validation.metrics.metric import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Agreement(Metric):
    """The share of samples with the same largest element, or the same whole numbers."""

    name: ClassVar[str] = "agreement"
    unit: ClassVar[str] = "%"
    needs_truth: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True

    def see(
        self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None
    ) -> NDArray[np.float64]:
        import numpy as np

        assert reference is not None
        if reference.dtype.kind in "iub":
            return np.array([float((output == reference).mean())])
        size = reference.shape[-1]
        same = output.reshape(-1, size).argmax(-1) == reference.reshape(-1, size).argmax(-1)
        return np.array([float(same.mean())])

    def figure(self, rows: NDArray[np.float64]) -> float:
        return 100.0 * float(rows[:, 0].mean())
