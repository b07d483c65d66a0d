"""Convolutions in groups as one for each group, joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np

from edgepipe.targets.edgetpu.legalise.steps import Steps
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.record import Record
from edgepipe.tflite.rewrite import Rewrite

MOST = 64
"""Groups; each becomes two operators."""


class GroupedConvolutions(Rewrite):
    """In groups, CONV_2D is of version 6, and the compiler stops reading the file there."""

    name: ClassVar[str] = "grouped_convolutions"
    says: ClassVar[str] = "convolutions in groups became one a group"

    def places(self, graph: Graph) -> Iterator[Op]:
        return (op for op in graph.operators("CONV_2D") if 1 < _groups(op) <= MOST)

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        groups, steps = _groups(op), Steps(op)
        source, target, weights = steps.source, steps.target, op.inputs[1]
        assert weights is not None and op.options is not None
        bias = op.inputs[2] if len(op.inputs) > 2 else None
        width = source.shape[-1] // groups
        parts = [
            source.like(
                f"{target.name}_in_{number}", shape=(*source.shape[:-1], width), signature=()
            )
            for number in range(groups)
        ]
        split = Op.make("SPLIT", [steps.numbers(3), source], parts, num_splits=groups)
        made, convolutions = list[Tensor](), list[Op]()
        for number, part in enumerate(parts):
            share = [_share(one, number, groups) for one in (weights, bias) if one is not None]
            shape = (*target.shape[:-1], target.shape[-1] // groups)
            made.append(target.like(f"{target.name}_out_{number}", shape=shape, signature=()))
            options = Record(op.options.kind, **op.options.values)
            convolutions.append(Op("CONV_2D", [part, *share], made[-1:], options))
        join = Op.make("CONCATENATION", made, [target], axis=len(target.shape) - 1)
        edit.substitute(graph, [op], [split, *convolutions, join])
        return True


def _groups(op: Op) -> int:
    source, weights = op.inputs[0], op.inputs[1]
    if source is None or weights is None or not weights.is_constant or not Steps(op).plain:
        return 0
    if len(source.shape) != 4 or source.dynamic or weights.sparsity is not None:
        return 0
    return source.shape[-1] // weights.shape[-1]


def _share(tensor: Tensor, number: int, groups: int) -> Tensor:
    """The filters of one group, with their scales."""
    count = tensor.shape[0] // groups
    part = slice(number * count, (number + 1) * count)
    known = tensor.quantization
    if known is not None and known.per_channel:
        known = replace(
            known, scales=known.scales[part], zero_points=known.zero_points[part],
            minimum=None, maximum=None,
        )  # fmt: skip
    values = np.ascontiguousarray(tensor.array()[part])
    return Tensor.constant(f"{tensor.name}_{number}", values, tensor.dtype, known)


REWRITE = GroupedConvolutions()
