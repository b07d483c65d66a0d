"""Lays height and width out in one row around a MEAN over depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import integers
from edgepipe.tflite.rewrite import Rewrite

WIDEST = 65536
"""Elements of a row, by Vela's other constraints on widths."""


class MeanOverDepth(Rewrite):
    """Vela reduces depth only where height, width or depth is 1. [1, h, w, c] is the same numbers
    as [1, 1, h * w, c], so two reshapes, which cost an NPU nothing, bring it there: the layer
    normalisations of a ConvNeXt from Keras hold 44 of them."""

    name: ClassVar[str] = "mean_over_depth"
    says: ClassVar[str] = "MEAN over depth got its height and width in one row"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("MEAN"):
            if _depth_alone(op):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        source, target = op.inputs[0], op.outputs[0]
        assert source is not None
        _, height, width, depth = source.shape
        row = Tensor(
            f"{target.name}_row", (1, 1, height * width, depth), source.dtype,
            quantization=source.quantization,
        )  # fmt: skip
        mean = Tensor(
            f"{target.name}_mean", (1, 1, height * width, 1), target.dtype,
            quantization=target.quantization,
        )  # fmt: skip
        axis = Tensor.constant(f"{target.name}_axis", np.array([3], np.int32))
        edit.substitute(
            graph,
            [op],
            [
                _reshape(source, row),
                Op.make("MEAN", [row, axis], [mean], keep_dims=True),
                _reshape(mean, target),
            ],
        )
        return True


def _depth_alone(op: Op) -> bool:
    source = op.inputs[0]
    axes = integers(op.inputs[1])
    if source is None or axes is None or len(source.shape) != 4 or source.dynamic:
        return False
    batch, height, width, depth = source.shape
    alone = [axis % 4 for axis in axes] == [3]
    return alone and batch == 1 and min(height, width, depth) > 1 and height * width < WIDEST


def _reshape(source: Tensor, target: Tensor) -> Op:
    shape = Tensor.constant(f"{target.name}_shape", np.array(target.shape, np.int32))
    return Op.make("RESHAPE", [source, shape], [target], new_shape=list(target.shape))


REWRITE = MeanOverDepth()
