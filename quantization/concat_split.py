"""Splits the layers that read a concatenation of unlike ranges: each range keeps its own scale.

An int8 CONCATENATION has one scale for all that it joins, and a part that is much smaller than
another is left with a few steps. What a convolution or a dense layer makes of it is the sum of
what it makes of the parts, so parts of like ranges go through their share of the weights, and the
results are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Graph, Op, Tensor
from edgepipe.tflite.record import Record

from .causes import UNLIKE_RANGES
from .layer_errors import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = Sequence[Sequence[NDArray[Any]]]

LINEAR = ("CONV_2D", "FULLY_CONNECTED")
DATA, WEIGHTS, BIAS = 0, 1, 2


def split(path: Path, samples: Samples, out: Path) -> int:
    """Write the float model with the readers of unlike parts split; how many there were."""
    model = loading.load(path)
    graph = model.main
    joins = list(_joins(graph))
    if not joins:
        return 0
    parts = {part.name for join in joins for part in join.reads()}
    largest = _largest(path, parts, samples)
    count = 0
    for join in joins:
        groups = _groups([largest[part.name] for part in join.reads()])
        if len(groups) > 1:
            for reader in list(_readers(graph, join)):
                _split(graph, join, reader, groups)
                count += 1
    if count:
        edit.prune(graph)
        edit.name_apart(model)
        saving.save(model, out)
    return count


def _joins(graph: Graph) -> Iterator[Op]:
    """Concatenations of channels that some linear layer reads."""
    for join in graph.operators("CONCATENATION"):
        parts, rank = list(join.reads()), len(join.outputs[0].shape)
        plain = all(part.dtype == "float32" and not part.is_constant for part in parts)
        along_channels = join.option("axis") in (-1, rank - 1) and join.activation == "NONE"
        fixed = not any(tensor.dynamic for tensor in (*parts, *join.outputs))
        if len(parts) > 1 and plain and along_channels and fixed and any(_readers(graph, join)):
            yield join


def _readers(graph: Graph, join: Op) -> Iterator[Op]:
    channels = join.outputs[0].shape[-1]
    for reader in graph.consumers(join.outputs[0]):
        constants = [tensor for tensor in reader.inputs[WEIGHTS:] if tensor is not None]
        known = all(tensor.is_constant and tensor.dtype == "float32" for tensor in constants)
        # Of a convolution in groups, each weight reads fewer channels than there are.
        all_channels = bool(constants) and constants[0].shape[-1] == channels
        reads = reader.name in LINEAR and reader.inputs[DATA] is join.outputs[0]
        if reads and known and all_channels:
            yield reader


def _largest(path: Path, names: set[str], samples: Samples) -> dict[str, float]:
    reference = Reference(path)
    found = dict.fromkeys(names, 0.0)
    for sample in samples:
        reference.run(sample)
        for name in names:
            found[name] = max(found[name], float(np.abs(reference.value(name)).max()))
    return found


def _groups(largest: Sequence[float]) -> list[list[int]]:
    """Places of the parts, those of like ranges together, the widest first."""
    groups: list[list[int]] = []
    for place in sorted(range(len(largest)), key=lambda one: -largest[one]):
        if groups and largest[groups[-1][0]] < UNLIKE_RANGES * largest[place]:
            groups[-1].append(place)
        else:
            groups.append([place])
    return [sorted(group) for group in groups]


def _split(graph: Graph, join: Op, reader: Op, groups: Sequence[Sequence[int]]) -> None:
    """The reader once for each group, its result the sum."""
    parts, weights = list(join.reads()), reader.inputs[WEIGHTS]
    bias = reader.inputs[BIAS] if len(reader.inputs) > BIAS else None
    assert weights is not None
    ends = np.cumsum([part.shape[-1] for part in parts])
    values, result = weights.array(), reader.outputs[0]
    made: list[Op] = []
    total: Tensor | None = None
    for number, group in enumerate(groups):
        data = parts[group[0]]
        if len(group) > 1:
            width = sum(parts[place].shape[-1] for place in group)
            shape = (*join.outputs[0].shape[:-1], width)
            data = join.outputs[0].like(f"{result.name}_joined_{number}", shape=shape)
            chosen = [parts[place] for place in group]
            made.append(Op("CONCATENATION", [*chosen], [data], join.options))
        columns = [np.arange(ends[place] - parts[place].shape[-1], ends[place]) for place in group]
        share = Tensor.constant(f"{weights.name}_{number}", values[..., np.concatenate(columns)])
        offset: NDArray[Any] = np.zeros(values.shape[0], np.float32)
        if bias is not None and not number:
            offset = bias.array().reshape(-1)
        part = result.like(f"{result.name}_part_{number}")
        shift = Tensor.constant(f"{part.name}_bias", offset)
        made.append(Op(reader.name, [data, share, shift], [part], _linear(reader)))
        if total is None:
            total = part
            continue
        last = number == len(groups) - 1
        summed = result if last else result.like(f"{result.name}_sum_{number}")
        activation = reader.activation if last else "NONE"
        made.append(Op.make("ADD", [total, part], [summed], fused_activation_function=activation))
        total = summed
    edit.substitute(graph, [reader], made)


def _linear(op: Op) -> Record | None:
    """Its options without the activation, which comes after the sum."""
    if op.options is None:
        return None
    values = {**op.options.values, "fused_activation_function": "NONE"}
    return Record(op.options.kind, **values)
