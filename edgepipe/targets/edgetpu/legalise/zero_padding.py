"""PADV2 with the number that stands for zero as PAD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.targets.edgetpu.legalise.steps import whole
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.rewrite import Rewrite


class ZeroPadding(Rewrite):
    """The compiler maps PAD, which fills with zero, and no PADV2."""

    name: ClassVar[str] = "zero_padding"
    says: ClassVar[str] = "PADV2 with zeros became PAD"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("PADV2"):
            if whole(op.inputs[1]) is not None and _zero(op.inputs[0], op.inputs[2]):
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        edit.substitute(graph, [op], [Op.make("PAD", op.inputs[:2], op.outputs)])
        return True


def _zero(source: Tensor | None, fill: Tensor | None) -> bool:
    if source is None or fill is None or not fill.is_constant or fill.elements != 1:
        return False
    known, value = source.quantization, fill.array().reshape(-1)[0]
    if known is None or not known.scales:
        return bool(value == 0)
    return bool(value == (known.zero_points[0] if known.zero_points else 0))


REWRITE = ZeroPadding()
