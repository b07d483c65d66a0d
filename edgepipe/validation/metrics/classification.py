"""Metrics of classifiers: top-1, top-k, accuracy of yes and no, F1; and their confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.validation.metrics.metric import (
    PERCENT,
    Metric,
    Misfit,
    elements,
    is_vector,
    shape_words,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgepipe.validation.metrics.metric import Rows

INDEX_TYPES = ("int32", "int64", "uint32", "uint64")
"""One number of these is a class; smaller integers are quantized scores."""
NOTHING = -1
"""The class of an output that holds NaN: none is true."""


class _Classes(Metric):
    """Scores of two classes or more, or the class itself as an integer."""

    unit = PERCENT
    best = 100.0
    flips = True

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        count = elements(shape)
        if not is_vector(shape):
            return f"an output of shape {shape_words(shape)} is no row of scores, one a class"
        if count == 1 and dtype not in INDEX_TYPES:
            return "the output is one number, not a score for each class"
        if count == 0:
            return "the output is empty"
        return ""


class _Answers(_Classes):
    """Rows: what is true, what was said, how many classes there are."""

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del reference
        scores = self.checked(output).reshape(-1)
        classes = len(scores) if len(scores) > 1 else 0
        label = label_of(truth, classes, self.name)
        if not classes:
            return np.array([label, int(scores[0]), 0.0])
        said = NOTHING if np.isnan(scores).any() else int(np.argmax(scores))
        return np.array([label, said, classes], np.float64)


class Top1(_Answers):
    name = "top1"

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        return share(self.hits(rows), weights)

    def hits(self, rows: Rows) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = rows[:, 0] == rows[:, 1]
        return found


class TopK(_Classes):
    """Rows: 1 where what is true is among the k largest. Of equal scores the first is larger, as
    argmax has it: integers are often equal."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.name = f"top{k}"

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        count = elements(shape)
        if (words := super().misfit(shape, dtype)) or count is None:
            return words
        if count <= self.k:
            return f"the output has {count} scores, and all of them are among the {self.k} largest"
        return ""

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del reference
        scores = self.checked(output).reshape(-1)
        label = label_of(truth, len(scores), self.name)
        own = scores[label]
        before = int((scores > own).sum()) + int((scores[:label] == own).sum())
        return np.array([before < self.k and not np.isnan(scores).any()], np.float64)

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        return share(self.hits(rows), weights)

    def hits(self, rows: Rows) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = rows[:, 0] > 0
        return found


class F1(_Answers):
    """The mean over classes that are true or were said at least once, as scikit-learn has it."""

    name = "f1"
    averages_classes: ClassVar[bool] = True

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        import numpy as np

        classes = np.unique(rows[:, :2])
        right = weights * (rows[:, 0] == rows[:, 1])
        true, said = (
            _by_class(weights, rows[:, 0], classes),
            _by_class(weights, rows[:, 1], classes),
        )
        both = _by_class(right, rows[:, 0], classes)
        there = (true + said > 0) & (classes != NOTHING)
        each = 2 * both / np.maximum(true + said, 1)
        count = there.sum(1)
        return np.where(count > 0, 100 * (each * there).sum(1) / np.maximum(count, 1), np.nan)


def _by_class(weights: Rows, labels: Rows, classes: Rows) -> Rows:
    """Sums of columns by their label, a column a class."""
    import numpy as np

    order = np.argsort(labels, kind="stable")
    there, starts = np.unique(labels[order], return_index=True)
    sums = np.zeros((len(weights), len(classes)))
    sums[:, np.searchsorted(classes, there)] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


class YesOrNo(Metric):
    """One number, a probability or a logit, or two scores of which the second says yes.

    Rows: what is true, the score, and whether it is one number. A probability is a yes above ½, a
    logit above 0; it is a logit if any of all samples is below 0 or above 1.
    """

    unit = PERCENT
    best = 100.0
    flips = True

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        count = elements(shape)
        if not is_vector(shape) or count not in (None, 1, 2):
            return f"an output of shape {shape_words(shape)} is no answer of yes or no"
        if dtype in INDEX_TYPES and count == 1 and self.name == "auc":
            return "the output is a class, not a score"
        return ""

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del reference
        scores = self.checked(output).reshape(-1).astype(np.float64)
        label = label_of(truth, 2, self.name)
        if len(scores) == 1:
            return np.array([label, scores[0], 1.0])
        return np.array([label, scores[1] - scores[0], 0.0])

    @staticmethod
    def said(rows: Rows) -> NDArray[np.bool_]:
        scores = rows[:, 1]
        probability = rows[0, 2] > 0 and not bool(((scores < 0) | (scores > 1)).any())
        found: NDArray[np.bool_] = scores > (0.5 if probability else 0.0)
        return found


class BinaryAccuracy(YesOrNo):
    name = "binary-accuracy"

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        return share(self.hits(rows), weights)

    def hits(self, rows: Rows) -> NDArray[np.bool_]:
        import numpy as np

        found: NDArray[np.bool_] = (self.said(rows) == (rows[:, 0] > 0)) & ~np.isnan(rows[:, 1])
        return found


class BinaryF1(YesOrNo):
    """Of those that are a yes: precision and recall in one."""

    name = "f1-binary"

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        import numpy as np

        true, said = (rows[:, 0] > 0).astype(float), self.said(rows).astype(float)
        both = weights @ (true + said)
        return np.where(both > 0, 200 * (weights @ (true * said)) / np.maximum(both, 1), np.nan)


def share(hits: NDArray[np.bool_], weights: Rows) -> Rows:
    """In percent."""
    found: Rows = 100 * (weights @ hits.astype(float)) / weights.sum(1)
    return found


def label_of(truth: Any, classes: int, metric: str) -> int:
    """The truth as one of the classes; 0 of them is an unknown number."""
    import numpy as np

    array = np.asarray(truth)
    if array.size != 1 or array.dtype.kind not in "iub":
        whole = array.size == 1 and array.dtype.kind == "f" and float(array.reshape(-1)[0]) % 1 == 0
        if not whole:
            raise Misfit(
                f"{metric} needs one class a sample, the truth is {_words(array)}",
                hint="whole numbers from 0 are classes; for other numbers take mae, rmse or r2,"
                " for masks miou, for boxes map.",
            )
    label = int(array.reshape(-1)[0])
    if label < 0 or (classes and label >= classes):
        raise Misfit(
            f"{metric}: a sample is labelled {label}, the output has {classes} classes,"
            f" 0 to {classes - 1}",
            hint="list the model's classes in its order in a .txt, one a line, and give it with"
            " --labels.",
        )
    return label


def _words(array: NDArray[Any]) -> str:
    if array.size == 1:
        return repr(array.reshape(-1)[0].item())
    return f"an array of shape {list(array.shape)}"
