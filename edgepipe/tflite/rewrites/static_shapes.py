"""Pins an open batch, so that shapes which are computed at run time become constants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite.fold import fold
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.rewrite import Rewrite


class StaticShapes(Rewrite):
    """A dynamic batch leaves SHAPE, STRIDED_SLICE and PACK before each RESHAPE.

    The Edge TPU compiler refuses them, and ai-edge-quantizer leaves them between integers. Only
    the batch is pinned: what else is open was meant to be.
    """

    name: ClassVar[str] = "static_shapes"
    says: ClassVar[str] = "the batch is fixed, and shapes are constants"

    def places(self, graph: Graph) -> Iterator[Op]:
        if any(-1 in tensor.signature[1:] for tensor in graph.inputs):
            return
        open_ = any(tensor.dynamic for tensor in graph.all_tensors())
        if open_ or graph.operators("SHAPE"):
            yield from graph.ops[-1:]

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        for tensor in graph.all_tensors():
            tensor.signature = ()
        fold(graph)
        for one in graph.operators("RESHAPE"):
            source, target = one.inputs[0], one.outputs[0]
            if source is not None and source.elements == target.elements:
                shape = np.asarray(target.shape, np.int32)
                one.inputs[1:] = [Tensor.constant(f"{target.name}_shape", shape)]
        return True


REWRITE = StaticShapes()
