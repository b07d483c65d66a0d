"""How like the float model's output it is, without labels: agreement, SQNR, cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.proof import PERFECT_DB
from edgepipe.validation.metrics.metric import PERCENT, Metric, Misfit, elements, shape_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgepipe.validation.metrics.metric import Rows


class _Likeness(Metric):
    needs_truth = False
    needs_reference = True

    def pair(
        self, output: NDArray[Any], reference: NDArray[Any] | None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        if reference is None:
            raise Misfit(
                f"{self.name} compares with the float model, and there is none",
                hint="name it with --against.",
            )
        if output.size != reference.size:
            raise Misfit(
                f"{self.name}: the output of a sample is {shape_words(output.shape)}, the float"
                f" model's {shape_words(reference.shape)}",
                hint="outputs whose number varies, like boxes, compare by map with --truth.",
            )
        return self.checked(output), reference.reshape(output.shape)


class Agreement(_Likeness):
    """How often both say the same: the class with the largest score, or the same integer; of a
    mask, in how many places. Rows: how many are the same, and how many there are."""

    name = "agreement"
    unit = PERCENT
    best: ClassVar[float | None] = 100.0
    flips = True

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        if dtype.startswith(("float", "bfloat")) and (len(shape) < 2 or elements(shape) == 1):
            return "the output is one number, and none of several that could be the largest"
        return ""

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del truth
        said, wanted = self.pair(output, reference)
        if wanted.dtype.kind != "f" and said.dtype.kind != "f":
            return np.array([(said == wanted).sum(), said.size], np.float64)
        axis = -1 if said.shape[-1] > 1 else int(np.argmax(said.shape))
        same = said.argmax(axis) == wanted.argmax(axis)
        broken = np.isnan(said).any(axis) & ~np.isnan(wanted).any(axis)
        return np.array([(same & ~broken).sum(), same.size], np.float64)

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        sums = weights @ rows
        found: Rows = 100 * sums[:, 0] / sums[:, 1]
        return found

    def hits(self, rows: Rows) -> NDArray[np.bool_] | None:
        if not bool((rows[:, 1] == 1).all()):
            return None
        found: NDArray[np.bool_] = rows[:, 0] > 0
        return found


class Sqnr(_Likeness):
    """Rows: energy of the float output, and of the difference."""

    name = "sqnr"
    unit = "dB"
    best: ClassVar[float | None] = PERFECT_DB

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        if elements(shape) == 0:
            return "the output is empty"
        return "" if "float" in dtype else f"the output is of {dtype}, and classes have no noise"

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del truth
        said, wanted = (each.astype(np.float64) for each in self.pair(output, reference))
        finite = np.isfinite(wanted)
        # What is no number where the float model has one is noise as loud as the signal.
        error = np.where(np.isfinite(said), said, 0.0)[finite] - wanted[finite]
        return np.array([np.square(wanted[finite]).sum(), np.square(error).sum()])

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        import numpy as np

        sums = weights @ rows
        tiny = np.finfo(np.float64).tiny
        # A difference of logarithms: without any noise the ratio itself has no number.
        signal, noise = (np.log10(np.maximum(sums[:, place], tiny)) for place in (0, 1))
        found: Rows = np.clip(10 * (signal - noise), -PERFECT_DB, PERFECT_DB)
        return found


class Cosine(_Likeness):
    """The mean over samples. Rows: the cosine."""

    name = "cosine"
    best: ClassVar[float | None] = 1.0

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        if elements(shape) == 1:
            return "the output is one number, and has no direction but its sign"
        return "" if "float" in dtype else f"the output is of {dtype}, and classes have no angle"

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del truth
        said, wanted = (
            np.nan_to_num(each.astype(np.float64).reshape(-1))
            for each in self.pair(output, reference)
        )
        lengths = float(np.linalg.norm(said) * np.linalg.norm(wanted))
        if lengths == 0:
            return np.array([float(not said.any() and not wanted.any())])
        return np.array([min(1.0, float(said @ wanted) / lengths)])

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        found: Rows = weights @ rows[:, 0] / weights.sum(1)
        return found
