"""Metrics of masks: the mean intersection over union, and the share of right pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.validation.metrics.metric import PERCENT, Metric, Misfit, shape_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.validation.metrics.metric import Rows

IGNORED = 255
"""Pixels that count for nothing, as in PASCAL VOC and Cityscapes; below 0 as well."""
MOST_CLASSES = 256
"""Of a mask of integers, whose number of classes nobody says."""


class _Masks(Metric):
    unit = PERCENT
    best: ClassVar[float | None] = 100.0
    truth = "mask"

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        whole = dtype.startswith(("int", "uint"))
        long = [size for size in shape[1:] if size != 1]
        if len(long) < 2 or (len(shape) < 4 and not whole):
            return f"an output of shape {shape_words(shape)} is no mask, nor scores of its classes"
        return ""

    def pair(self, output: NDArray[Any], truth: Any) -> tuple[NDArray[Any], NDArray[Any], int]:
        """What was said and what is true of each pixel that counts, and the number of classes."""
        import numpy as np

        mask = np.squeeze(np.asarray(truth))
        if mask.ndim < 2 or mask.dtype.kind not in "iub":
            raise Misfit(
                f"{self.name} needs a mask of classes a sample, the truth is"
                f" {mask.dtype} of shape {list(mask.shape)}",
                hint="give a folder of PNG masks or an array of whole numbers with --truth.",
            )
        said, classes = _said(self.checked(output), mask.shape, self.name)
        counts = (mask != IGNORED) & (mask >= 0)
        inside = mask[counts].astype(np.int64)
        if inside.size and int(inside.max()) >= classes:
            raise Misfit(
                f"{self.name}: a mask holds the class {int(inside.max())}, the output has"
                f" {classes}, 0 to {classes - 1}",
                hint=f"pixels that count for nothing are {IGNORED}.",
            )
        return said[counts], inside, classes


def _said(output: NDArray[Any], mask: Sequence[int], name: str) -> tuple[NDArray[Any], int]:
    """The class of each pixel: scores stand along the one axis that the mask lacks."""
    import numpy as np

    shape = output.shape[1:]
    if np.squeeze(output).shape == tuple(mask):
        array = np.squeeze(output)
        if output.dtype.kind in "iu":
            return array.astype(np.int64), MOST_CLASSES
        # One score a pixel: the mask of one class, as a probability or as a logit.
        probable = bool((array >= 0).all() and (array <= 1).all())
        return (array > (0.5 if probable else 0.0)).astype(np.int64), 2
    for axis in (len(shape) - 1, 0):
        rest = shape[:axis] + shape[axis + 1 :]
        if rest == tuple(mask) and shape[axis] > 1:
            return output[0].argmax(axis), shape[axis]
    raise Misfit(
        f"{name}: the output is {shape_words(output.shape)}, the mask of a sample"
        f" {shape_words(mask)}",
        hint="masks have the output's height and width: bring either to the other's size,"
        " the output with --postprocess module:function.",
    )


class MeanIou(_Masks):
    """Over the classes that are true or were said somewhere. Rows: pixels in both and in either,
    of each class."""

    name = "miou"

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del reference
        said, true, classes = self.pair(output, truth)
        both = np.bincount(true[said == true], minlength=classes)
        clipped = np.clip(said, 0, classes - 1)
        either = np.bincount(true, minlength=classes) + np.bincount(clipped, minlength=classes)
        return np.concatenate([both, either - both]).astype(np.float64)

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        import numpy as np

        classes = rows.shape[1] // 2
        seen = np.flatnonzero(rows[:, classes:].any(0))
        both, either = weights @ rows[:, seen], weights @ rows[:, classes + seen]
        there = either > 0
        count = there.sum(1)
        total = (both / np.maximum(either, 1)).sum(1)
        return np.where(count > 0, 100 * total / np.maximum(count, 1), np.nan)


class PixelAccuracy(_Masks):
    """Rows: right pixels, and those that count."""

    name = "pixel-accuracy"

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del reference
        said, true, _ = self.pair(output, truth)
        return np.array([(said == true).sum(), true.size], np.float64)

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        import numpy as np

        sums = weights @ rows
        return np.where(sums[:, 1] > 0, 100 * sums[:, 0] / np.maximum(sums[:, 1], 1), np.nan)
