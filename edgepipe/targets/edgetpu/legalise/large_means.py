"""Means over large images in two steps: averages of tiles, then the mean of those."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.targets.edgetpu.legalise.steps import Steps, whole
from edgepipe.targets.edgetpu.rules import MEAN_SEEN_MAPPED
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.rewrite import Rewrite


class LargeMeans(Rewrite):
    """MEAN over 256x128 pixels isn't mapped, and is after a split to 64x128 (google-coral/edgetpu
    issue 461); over 256x256 the compiler dies (issue 183).

    The tiles are as small as suffices, so that what their averages round is averaged again.
    """

    name: ClassVar[str] = "large_means"
    says: ClassVar[str] = "means over large images became AVERAGE_POOL_2D and MEAN"
    integer_db: ClassVar[float | None] = 30.0

    def places(self, graph: Graph) -> Iterator[Op]:
        return (op for op in graph.operators("MEAN") if _tile(op) is not None)

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        tile = _tile(op)
        if tile is None:
            return False
        steps = Steps(op)
        (high, wide), (batch, height, width, depth) = tile, steps.source.shape
        pooled = steps.add(
            "AVERAGE_POOL_2D", steps.source, shape=(batch, height // high, width // wide, depth),
            padding="VALID", stride_h=high, stride_w=wide, filter_height=high, filter_width=wide,
        )  # fmt: skip
        mean = Op("MEAN", [pooled, op.inputs[1]], op.outputs, op.options)
        edit.substitute(graph, [op], [*steps.ops, mean])
        return True


def _tile(op: Op) -> tuple[int, int] | None:
    """Height and width of the smallest tile after which few enough pixels are left."""
    source, axes = op.inputs[0], whole(op.inputs[1])
    if source is None or axes is None or len(source.shape) != 4 or source.dynamic:
        return None
    if sorted(axis % 4 for axis in axes) != [1, 2] or not Steps(op).plain:
        return None
    _, height, width, _ = source.shape
    if height * width <= MEAN_SEEN_MAPPED:
        return None
    tiles = [
        (high, wide)
        for high in _divisors(height)
        for wide in _divisors(width)
        if height * width // (high * wide) <= MEAN_SEEN_MAPPED
    ]
    found = min(tiles, key=lambda one: (one[0] * one[1], abs(one[0] - one[1])))
    return found if found[0] * found[1] <= MEAN_SEEN_MAPPED else None


def _divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]


REWRITE = LargeMeans()
