"""A single pixel that is stretched over an image: multiplied with ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.targets.edgetpu.legalise.steps import Steps, whole
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.rewrite import Rewrite


class SinglePixels(Rewrite):
    """The compiler finds a RESIZE of one pixel too imprecise (DeepLab's pooled branch), though
    there is nothing to blend. Multiplying maps with an operand of one pixel, as in
    squeeze-and-excite blocks."""

    name: ClassVar[str] = "single_pixels"
    says: ClassVar[str] = "stretched single pixels became MUL with ones"
    integer_db: ClassVar[float | None] = 40.0

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "TILE"):
            source, target = op.inputs[0], op.outputs[0]
            if source is None or len(source.shape) != 4 or not Steps(op).plain:
                continue
            if op.name == "TILE" and (whole(op.inputs[1]) or [0])[-1] != 1:
                continue
            stretched = source.shape[1:3] == (1, 1) and target.shape[1:3] != (1, 1)
            if stretched and source.shape[0] == target.shape[0] == 1:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        steps = Steps(op)
        steps.add("MUL", steps.source, np.ones(steps.target.shape, np.float32), last=True)
        edit.substitute(graph, [op], steps.ops)
        return True


REWRITE = SinglePixels()
