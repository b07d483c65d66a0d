"""Axes, shapes and paddings of 64 bits as 32 bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.rewrite import Rewrite

_TAKES = {
    "RESHAPE", "PAD", "PADV2", "MIRROR_PAD", "MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "TRANSPOSE",
    "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "EXPAND_DIMS", "TILE", "GATHER", "GATHER_ND",
    "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "BROADCAST_TO", "ARG_MAX", "ARG_MIN",
}  # fmt: skip
_LARGEST = 2**31 - 1


class IntegerConstants(Rewrite):
    """Newer converters write them in 64 bits, which the compiler of 2021 takes for another
    version of the operator, or for none."""

    name: ClassVar[str] = "integer_constants"
    says: ClassVar[str] = "constants of 64 bits became 32 bits"

    def places(self, graph: Graph) -> Iterator[Op]:
        return (
            op for op in graph.ops if op.name in _TAKES and any(_wide(one) for one in op.reads())
        )

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        op.inputs = [_narrowed(one) if one is not None and _wide(one) else one for one in op.inputs]
        return True


def _wide(tensor: Tensor) -> bool:
    return tensor.dtype == "int64" and tensor.is_constant


def _narrowed(tensor: Tensor) -> Tensor:
    values = np.clip(tensor.array(), -_LARGEST - 1, _LARGEST)  # Ends of slices may be "to the end".
    return Tensor.constant(f"{tensor.name}_int32", values.astype(np.int32))


REWRITE = IntegerConstants()
