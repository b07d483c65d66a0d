"""COCO's mean average precision: what one sample's boxes say; the figure needs all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.validation.metrics.metric import PERCENT, Metric, Misfit, shape_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.validation.metrics.metric import Rows

BOXES = 100
"""Of an image, as COCO counts them."""
NUMBERS = 6


class MeanAveragePrecision(Metric):
    """Rows: the image's number in the annotations, then left, top, right, bottom in its pixels,
    score and class of 100 boxes; a score of -1 is none.

    The class is the place of the category among those of the annotations, sorted by their ids.
    """

    name = "map"
    unit = PERCENT
    truth = "boxes"
    best: ClassVar[float | None] = 100.0
    toolchain: ClassVar[str] = "coco"
    first: ClassVar[bool] = False
    """Whether an overlap of one half is enough; COCO takes the mean over ten, 0.5 to 0.95."""
    by_id: ClassVar[bool] = False
    """Whether a class is the category's id less 1, as TensorFlow's detectors count them."""

    def misfit(self, shape: Sequence[int | None], dtype: str) -> str:
        if len(shape) == 3 and shape[2] in (NUMBERS, None) and "float" in dtype:
            return ""
        return (
            f"an output of shape {shape_words(shape)} is no [1, N, 6] of boxes with score and class"
            " (--postprocess yolo or ssd makes such of a detector's outputs)"
        )

    def see(self, output: NDArray[Any], truth: Any, reference: NDArray[Any] | None) -> Rows:
        import numpy as np

        del reference
        given = np.asarray(truth).reshape(-1)
        if given.size != 3:
            raise Misfit(
                f"{self.name} needs COCO's annotations",
                hint="name their .json with --truth.",
            )
        image, width, height = given
        boxes = self.checked(output)[0].astype(np.float64)
        boxes = boxes[np.isfinite(boxes).all(axis=1) & (boxes[:, 4] > 0)]
        boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")][:BOXES]
        row = np.full((BOXES, NUMBERS), -1.0)
        row[: len(boxes)] = boxes * [width, height, width, height, 1, 1]
        return np.concatenate([[float(image)], row.reshape(-1)])

    def weighted(self, rows: Rows, weights: Rows) -> Rows:
        raise NotImplementedError("edgepipe.validation.coco_jobs matches the boxes first")


class HalfOverlap(MeanAveragePrecision):
    name = "map50"
    first = True


class MapById(MeanAveragePrecision):
    name = "map-by-id"
    by_id = True
