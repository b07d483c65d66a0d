"""Every second pixel and its like: MAX_POOL_2D with a window of one pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from edgepipe.targets.edgetpu.legalise.steps import Steps, stored_alike, whole
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.rewrite import Rewrite


class StridedSlices(Rewrite):
    """A STRIDED_SLICE is mapped with strides of 1 only. A pooling whose window is one pixel
    takes every n-th pixel as it is."""

    name: ClassVar[str] = "strided_slices"
    says: ClassVar[str] = "slices with strides became poolings of one pixel"

    def places(self, graph: Graph) -> Iterator[Op]:
        return (op for op in graph.operators("STRIDED_SLICE") if _begin(op) is not None)

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        begin, strides = _begin(op), whole(op.inputs[3])
        if begin is None or strides is None:
            return False
        steps = Steps(op)
        size = [
            (made - 1) * step + 1 for made, step in zip(steps.target.shape, strides, strict=True)
        ]
        source = steps.source
        if any(begin) or list(source.shape) != size:
            source = steps.add(
                "SLICE", source, steps.numbers(begin), steps.numbers(size), shape=tuple(size)
            )
        options: dict[str, Any] = {"stride_h": strides[1], "stride_w": strides[2]}
        steps.add(
            "MAX_POOL_2D", source, last=True, padding="VALID",
            filter_height=1, filter_width=1, **options,
        )  # fmt: skip
        edit.substitute(graph, [op], steps.ops)
        return True


def _begin(op: Op) -> list[int] | None:
    """Where the slice begins, where it has strides along height and width alone."""
    source, target = op.inputs[0], op.outputs[0]
    begin, strides = whole(op.inputs[1]), whole(op.inputs[3])
    if source is None or begin is None or strides is None or not stored_alike(source, target):
        return None
    masks = ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    if len(source.shape) != 4 or source.dynamic or any(op.option(one) for one in masks):
        return None
    if min(strides) < 1 or max(strides) == 1 or (strides[0], strides[3]) != (1, 1):
        return None
    if source.dtype not in ("int8", "uint8", "float32") or source.is_constant:
        return None
    free = int(op.option("begin_mask"))
    return [
        0 if free & (1 << axis) else first % size
        for axis, (first, size) in enumerate(zip(begin, source.shape, strict=True))
    ]


REWRITE = StridedSlices()
