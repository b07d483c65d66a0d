"""LEAKY_RELU as PRELU with the same slope everywhere, or as a maximum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.targets.edgetpu.legalise.steps import Steps, integer
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.rewrite import Rewrite


class LeakyRelu(Rewrite):
    """The compiler knows no LEAKY_RELU.

    In floats: MAXIMUM(x, a x), which the quantizer gives one scale. In integers that would ask
    for a scale that the file's tensors don't have, where PRELU brings one scale to another.
    """

    name: ClassVar[str] = "leaky_relu"
    says: ClassVar[str] = "LEAKY_RELU became MAXIMUM(x, a x), or PRELU"
    integer_db: ClassVar[float | None] = 30.0

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("LEAKY_RELU"):
            if Steps(op).plain and 0 <= float(op.option("alpha")) <= 1:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        steps, slope = Steps(op), float(op.option("alpha"))
        if integer(steps.source):
            shape = (*(1 for _ in steps.source.shape[1:-1]), steps.source.shape[-1])
            steps.add("PRELU", steps.source, np.full(shape, slope), last=True)
        else:
            steps.add("MAXIMUM", steps.source, steps.add("MUL", steps.source, slope), last=True)
        edit.substitute(graph, [op], steps.ops)
        return True


REWRITE = LeakyRelu()
