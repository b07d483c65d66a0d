"""Gives convolutions along one axis the same dilation along both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.record import Record
from edgepipe.tflite.rewrite import Rewrite


class LineDilations(Rewrite):
    """The compiler maps a dilation that is the same in x and y. A window of one row has none in y,
    whatever is said: so are convolutions over time written."""

    name: ClassVar[str] = "line_dilations"
    says: ClassVar[str] = "dilations along one axis were said for both"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("CONV_2D", "DEPTHWISE_CONV_2D"):
            if _said(op) is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        dilation = _said(op)
        if dilation is None or op.options is None:
            return False
        same = dict.fromkeys(("dilation_h_factor", "dilation_w_factor"), dilation)
        op.options = Record(op.options.kind, **{**op.options.values, **same})
        return True


def _said(op: Op) -> int | None:
    """The dilation of the axis along which the window is longer than one, if they differ."""
    down, across = op.option("dilation_h_factor"), op.option("dilation_w_factor")
    weights = op.inputs[1]
    if weights is None or len(weights.shape) != 4 or down == across:
        return None
    height, width = weights.shape[1:3]
    if height == 1:
        return int(across)
    return int(down) if width == 1 else None


REWRITE = LineDilations()
