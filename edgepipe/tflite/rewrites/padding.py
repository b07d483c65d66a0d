"""Replaces paddings with a constant by ones that quantize."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import integers, never_negative, only_reader, scalar
from edgepipe.tflite.rewrite import Rewrite

_LOW = -1e4
"""Below it a constant means "never the maximum"."""


class Padding(Rewrite):
    """PADV2, as PyTorch's pooling and padding become it.

    1. Padded with zero: PAD.
    2. Padded with "never the maximum" before a MAX_POOL_2D, of numbers that are never negative:
       PAD, as a zero doesn't win either.
    3. The same of other numbers: MIRROR_PAD, which repeats the edge inside of the same window.
    4. Any other constant: as a scalar. ai-edge-quantizer 0.10 takes one of shape (1,) for
       per-channel and stops with "Ranks of scales (5) and zps (5)" (ResNet, DenseNet).
    """

    name: ClassVar[str] = "padding"
    says: ClassVar[str] = "PADV2 became a padding that quantizes"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("PADV2"):
            if scalar(op.inputs[2]) is not None and integers(op.inputs[1]) is not None:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        source, amounts, fill = op.inputs
        value = scalar(fill)
        if source is None or value is None:
            return False
        before_pool = _before_max_pool(graph, op)
        if value == 0 or (value <= _LOW and before_pool and never_negative(graph, source)):
            new = Op.make("PAD", [source, amounts], op.outputs)
        elif value <= _LOW and before_pool and _repeats_inside(graph, op):
            new = Op.make("MIRROR_PAD", [source, amounts], op.outputs, mode="SYMMETRIC")
        elif fill is not None and fill.shape != ():
            number = np.asarray(value, np.float32)
            op.inputs[2] = Tensor.constant(f"{op.outputs[0].name}_fill", number)
            return True
        else:
            return False
        edit.substitute(graph, [op], [new])
        return True


def _before_max_pool(graph: Graph, op: Op) -> bool:
    reader = only_reader(graph, op.outputs[0])
    return reader is not None and reader.name == "MAX_POOL_2D"


def _repeats_inside(graph: Graph, op: Op) -> bool:
    """A window that begins in the padding also holds what the padding repeats."""
    pool = only_reader(graph, op.outputs[0])
    amounts = integers(op.inputs[1])
    source = op.inputs[0]
    if pool is None or amounts is None or source is None or len(amounts) != 8:
        return False
    window = (0, pool.option("filter_height"), pool.option("filter_width"), 0)
    sides = zip(amounts[::2], amounts[1::2], source.shape, window, strict=True)
    return pool.option("padding") == "VALID" and all(
        2 * max(low, high) <= width and max(low, high) <= length
        for low, high, length, width in sides
    )


REWRITE = Padding()
