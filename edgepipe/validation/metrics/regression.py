"""Metrics of numbers: mean absolute error, its square, R2 and Pearson's correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.validation.metrics.metric import Metric, Misfit, elements

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.validation.metrics.metric import Rows

MOST_TARGETS = 64
"""Of an output with more numbers, R2 and Pearson would need rows that are too long."""


def _pair(output: NDArray[Any], truth: Any, name: str) -> tuple[Rows, Rows]:
    import numpy as np

    said = output.reshape(-1).astype(np.float64)
    try:
        true = np.asarray(truth, np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise Misfit(f"{name} needs numbers, the truth is {truth!r}") from error
    if true.size != said.size:
        raise Misfit(
            f"{name}: the truth of a sample has {true.size} numbers, the output has {said.size}",
            hint="give as many numbers a sample as the output has, or take another metric.",
        )
    return said, true


class _Error(Metric):
    """Rows: the sum of the errors, and how many there are."""

    higher_is_better = False
    truth = "numbers"

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        del dtype
        return "the output is empty" if elements(shape) == 0 else ""


class Mae(_Error):
    name = "mae"

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del reference
        said, true = _pair(self.checked(output), truth, self.name)
        return np.array([np.abs(said - true).sum(), said.size])

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        sums = weights @ rows
        found: Rows = sums[:, 0] / sums[:, 1]
        return found


class Rmse(_Error):
    name = "rmse"

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del reference
        said, true = _pair(self.checked(output), truth, self.name)
        return np.array([np.square(said - true).sum(), said.size])

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        import numpy as np

        sums = weights @ rows
        found: Rows = np.sqrt(sums[:, 0] / sums[:, 1])
        return found


class _Moments(Metric):
    """Rows: what was said, then what is true; each output's numbers by themselves, then their
    mean, as scikit-learn has it."""

    truth = "numbers"
    best: ClassVar[float | None] = 1.0

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        del dtype
        count = elements(shape)
        if count is not None and not 0 < count <= MOST_TARGETS:
            return f"the output has {count} numbers a sample, {MOST_TARGETS} at most can be used"
        return ""

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del reference
        return np.concatenate(_pair(self.checked(output), truth, self.name))

    def moments(self, rows: Rows, weights: Rows) -> tuple[Rows, Rows, Rows, Rows]:
        """Sums of squares about the means: of the truth, of what was said, of both, of errors.

        Around the mean of all first: numbers of a million that vary by 1 would cancel.
        """
        half = rows.shape[1] // 2
        centre = rows.mean(0)
        said, true = (rows - centre)[:, :half], (rows - centre)[:, half:]
        count = weights.sum(1, keepdims=True)
        mean_said, mean_true = weights @ said / count, weights @ true / count
        of_true = weights @ (true * true) - count * mean_true**2
        of_said = weights @ (said * said) - count * mean_said**2
        of_both = weights @ (said * true) - count * mean_said * mean_true
        error = weights @ (rows[:, :half] - rows[:, half:]) ** 2
        return of_true, of_said, of_both, error


class R2(_Moments):
    """1 is perfect; 0 is no better than the mean of what is true."""

    name = "r2"

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        import numpy as np

        of_true, _, _, error = self.moments(rows, weights)
        varies = of_true > _rounding(rows)[rows.shape[1] // 2 :]
        each = np.where(varies, 1 - error / np.where(varies, of_true, 1), np.nan)
        found: Rows = each.mean(1)
        return found


class Pearson(_Moments):
    name = "pearson"

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        import numpy as np

        of_true, of_said, of_both, _ = self.moments(rows, weights)
        half = rows.shape[1] // 2
        floor = _rounding(rows)
        varies = (of_said > floor[:half]) & (of_true > floor[half:])
        product = np.sqrt(np.where(varies, of_true * of_said, 1))
        each = np.where(varies, of_both / product, np.nan)
        found: Rows = each.mean(1)
        return found


def _rounding(rows: Rows) -> Rows:
    """Of each column the sum of squares about the mean that rounding alone may leave."""
    import numpy as np

    spread = np.square(rows - rows.mean(0)).mean(0)
    found: Rows = 1e-12 * spread + 1e-30 * np.square(rows).mean(0)
    return found
