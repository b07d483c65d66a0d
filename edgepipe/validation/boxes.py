"""Boxes out of what detectors give: YOLO's and SSD's outputs, with suppression of the doubled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgepipe.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

DETECTIONS = "detections"
"""The output that is made: [1, N, 6], left, top, right, bottom as shares of the input's width and
height, the score, the class."""
MOST = 100
"""Boxes of an image, as COCO counts them."""
CANDIDATES = 3000
"""Boxes with the best scores of which doubled ones are looked for."""


def yolo(outputs: Tensors, settings: Mapping[str, Any]) -> Tensors:
    """One output of [1, 4 + classes, N] or its transpose, or of [1, N, 5 + classes] with a score
    of there being anything; centre, width and height in pixels of the input, or as shares."""
    import numpy as np

    form = str(settings.get("form", "auto"))
    if form not in ("auto", "v5", "v8"):
        raise OptionError(f"yolo: form is v5, v8 or auto, received {form!r}")
    array = _only(outputs, 3)[0].astype(np.float32)
    if array.shape[0] < array.shape[1]:
        array = array.T  # Boxes are more than numbers of each.
    centre, size = array[:, :2], array[:, 2:4]
    classes = settings.get("classes")
    with_object = form == "v5" or (classes is not None and array.shape[1] == 5 + int(classes))
    scores = array[:, 5:] * array[:, 4:5] if with_object else array[:, 4:]
    corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    if corners.size and float(np.abs(corners).max()) > 4:
        height, width = (float(settings[name]) for name in ("height", "width"))
        corners = corners / np.array([width, height, width, height], np.float32)
    return {DETECTIONS: _suppressed(corners, scores, settings)}


def ssd(outputs: Tensors, settings: Mapping[str, Any]) -> Tensors:
    """TensorFlow's four outputs (boxes, classes, scores, count), in which doubled boxes are gone
    already, or boxes of [1, N, 4] with scores of [1, N, classes]; top, left, bottom, right."""
    import numpy as np

    arrays = {name: array.astype(np.float32) for name, array in outputs.items()}
    boxes = [array[0] for array in arrays.values() if array.ndim == 3 and array.shape[2] == 4]
    if len(boxes) != 1:
        raise OptionError(
            f"ssd needs one output of [1, N, 4], received {_shapes(outputs)}",
            hint="decode others by a function of yours: --postprocess module:function.",
        )
    order = [1, 0, 3, 2] if settings.get("order", "yxyx") == "yxyx" else [0, 1, 2, 3]
    corners, count = boxes[0][:, order], len(boxes[0])
    scores = [a[0] for a in arrays.values() if a.ndim == 3 and a.shape[1] == count
              and a.shape[2] != 4]  # fmt: skip
    flat = [array[0] for array in arrays.values() if array.ndim == 2 and array.shape[1] == count]
    if len(scores) == 1:
        background = settings.get("background")
        given = scores[0]
        if background is not None:
            given = np.delete(given, int(background), axis=1)
        return {DETECTIONS: _suppressed(corners, given, settings)}
    if len(flat) != 2:
        raise OptionError(f"ssd can't tell scores and classes among {_shapes(outputs)}")
    # Classes are whole numbers; where both are, as of no detection at all, it is all the same.
    first_is_classes = bool((flat[0] % 1 == 0).all()) and float(np.max(flat[0], initial=0)) > 1
    both_whole = first_is_classes or bool((flat[0] % 1 == 0).all() and (flat[1] % 1 != 0).any())
    named, sure = (flat[0], flat[1]) if both_whole else (flat[1], flat[0])
    found = np.concatenate([corners, sure[:, None], named[:, None]], axis=1)
    found = found[sure > float(settings.get("conf", 0.001))]
    return {DETECTIONS: found[np.argsort(-found[:, 4], kind="stable")][None, :MOST]}


def _suppressed(
    corners: NDArray[Any], scores: NDArray[Any], settings: Mapping[str, Any]
) -> NDArray[Any]:
    """The best boxes of each class that overlap no better one of the same class."""
    import numpy as np

    least, overlap = float(settings.get("conf", 0.001)), float(settings.get("iou", 0.7))
    places, classes = np.nonzero(scores > least)
    sure = scores[places, classes]
    best = np.argsort(-sure, kind="stable")[:CANDIDATES]
    places, classes, sure = places[best], classes[best], sure[best]
    boxes = corners[places]
    kept: list[int] = []
    free = np.ones(len(boxes), bool)
    for place in range(len(boxes)):
        if not free[place]:
            continue
        kept.append(place)
        if len(kept) == MOST:
            break
        rivals = free & (classes == classes[place])
        rivals[: place + 1] = False
        others = np.flatnonzero(rivals)
        free[others[_overlaps(boxes[place], boxes[others]) > overlap]] = False
    found = np.concatenate([boxes, sure[:, None], classes[:, None]], axis=1)[kept]
    return found.astype(np.float32)[None]


def _overlaps(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Intersection over union with each."""
    import numpy as np

    near = np.maximum(box[:2], others[:, :2])
    far = np.minimum(box[2:], others[:, 2:])
    both = np.maximum(far - near, 0).prod(axis=1)
    own = np.maximum(box[2:] - box[:2], 0).prod()
    theirs = np.maximum(others[:, 2:] - others[:, :2], 0).prod(axis=1)
    found: NDArray[Any] = both / np.maximum(own + theirs - both, 1e-12)
    return found


def _only(outputs: Tensors, axes: int) -> NDArray[Any]:
    fitting = [array for array in outputs.values() if array.ndim == axes]
    if len(fitting) != 1:
        raise OptionError(
            f"yolo needs one output of three axes, received {_shapes(outputs)}",
            hint="decode others by a function of yours: --postprocess module:function.",
        )
    return fitting[0]


def _shapes(outputs: Tensors) -> str:
    return ", ".join(f"{name!r} {list(array.shape)}" for name, array in outputs.items())
