"""The area under the ROC curve: of yes and no, or of each class against the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.validation.metrics.classification import YesOrNo, label_of
from edgepipe.validation.metrics.metric import elements, is_vector, shape_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgepipe.validation.metrics.metric import Rows

MOST_CLASSES = 100
"""A row holds a score for each, and each is sorted and resampled by itself."""


class Auc(YesOrNo):
    """Rows: what is true, and the score of yes, or those of three classes and more.

    Of these it is the mean over the classes that some samples are of and others are not.
    """

    name = "auc"
    averages_classes: ClassVar[bool] = True
    flips = False

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        count = elements(shape)
        if is_vector(shape) and count is not None and 2 < count <= MOST_CLASSES:
            return ""
        if is_vector(shape) and count is not None and count > MOST_CLASSES:
            return f"the output has {count} classes, {MOST_CLASSES} at most are each ranked"
        if words := super().misfit(shape, dtype):
            return f"an output of shape {shape_words(shape)} ranks nothing" if count else words
        return ""

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        scores = self.checked(output).reshape(-1).astype(np.float64)
        if len(scores) <= 2:
            return super().see(output, truth, reference)[:2]
        return np.concatenate([[label_of(truth, len(scores), self.name)], scores])

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        import numpy as np

        if rows.shape[1] == 2:
            return _area(rows[:, 0] == 1, rows[:, 1], np.ascontiguousarray(weights.T))
        turned = np.ascontiguousarray(weights.T)
        # One class that a resample lacks is left out of its mean, as of that of all samples.
        areas = [
            _area(rows[:, 0] == label, rows[:, label + 1], turned)
            for label in range(rows.shape[1] - 1)
            if 0 < int((rows[:, 0] == label).sum()) < len(rows)
        ]
        if not areas:
            return np.full(len(weights), np.nan)
        stacked = np.stack(areas)
        there = ~np.isnan(stacked)
        return np.where(there.any(0), np.nansum(stacked, 0) / np.maximum(there.sum(0), 1), np.nan)


def _area(positive: NDArray[np.bool_], scores: Rows, turned: Rows) -> Rows:
    """In percent: how often a positive sample stands above a negative one; equals count half.

    `turned` has a line a sample, so that a sum over ranked samples adds whole lines.
    """
    import numpy as np

    yes, no = np.flatnonzero(positive), np.flatnonzero(~positive)
    no = no[np.argsort(scores[no], kind="stable")]
    beaten = np.concatenate([np.zeros((1, turned.shape[1])), np.cumsum(turned[no], axis=0)])
    own = turned[yes]
    below = beaten[np.searchsorted(scores[no], scores[yes], "left")]
    below += beaten[np.searchsorted(scores[no], scores[yes], "right")]
    won = np.einsum("ij,ij->j", own, below) / 2
    pairs = own.sum(0) * beaten[-1]
    return np.where(pairs > 0, 100 * won / np.maximum(pairs, 1), np.nan)
