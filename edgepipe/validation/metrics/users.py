"""A metric of the user: a function that gives each sample a number, whose mean is the figure."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.errors import UserCodeError
from edgepipe.validation.metrics.metric import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.validation.metrics.metric import Rows

LOWER = ":lower"


class UsersMetric(Metric):
    """`module:function`, and `module:function:lower` where a lower number is better.

    It is called with one sample of the output and what is true of it. One that has a parameter
    `reference` gets the float model's output by that name, and judges the candidate alone.
    """

    needs_truth: ClassVar[bool] = False  # Whether it does, only the code knows.

    def __init__(self, name: str, python_path: Sequence[str] = (), digest: str = "") -> None:
        del digest  # Of the code, for the key of what is kept.
        self.name = name.removesuffix(LOWER)
        self.higher_is_better = not name.endswith(LOWER)  # type: ignore[misc]
        self.python_path = tuple(python_path)

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        from edgepipe.runners.user_code import users_function

        return users_function(self.name, self.python_path)

    @functools.cached_property
    def _compares(self) -> bool:
        return "reference" in inspect.signature(self.function).parameters

    def judges_baseline(self) -> bool:
        return not self._compares

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        from edgepipe.runners.user_code import told

        others = {"reference": reference} if self._compares else {}
        try:
            found = self.function(output, truth, **others)
            number = float(found)
        except (Exception, SystemExit) as error:
            raise told(error, f"the metric {self.name} failed", self.python_path) from error
        if not np.isfinite(number):
            raise UserCodeError(
                f"the metric {self.name} gave {found!r}, expected a finite number",
                hint="give what a sample without an answer is worth, for instance 0.",
            )
        return np.array([number])

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        found: Rows = weights @ rows[:, 0] / weights.sum(1)
        return found
