"""Changes in a TFLite file that OpenVINO's reader needs, and that compute exactly the same."""

from __future__ import annotations

from pathlib import Path

from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Graph, Model, Op, Tensor


def readable(path: Path, workdir: Path) -> Path:
    """The file itself, or a copy that is mended."""
    model = loading.load(path)
    if not joined_pads(model):
        return path
    mended = workdir / path.name
    saving.save(model, mended)
    return mended


def joined_pads(model: Model) -> int:
    """Make each PADV2 a concatenation with constants.

    Converters write PADV2 before a padded MaxPool. OpenVINO 2026.4.1 reads its value as a vector of
    one and then refuses it: "Argument for padding value is not a scalar".
    """
    changed = 0
    for graph in model.graphs:
        for op in graph.operators("PADV2"):
            joins = _joins(op, graph)
            if joins:
                edit.substitute(graph, [op], joins)
                changed += 1
    return changed


def _joins(op: Op, graph: Graph) -> list[Op]:
    """Nothing where the shape, the widths or the value are not in the file."""
    source, widths, value = op.inputs[:3]
    if source is None or widths is None or value is None:
        return []
    if widths.data is None or value.data is None or any(side < 0 for side in source.signature):
        return []
    fill = value.array().reshape(-1)
    axes = [(axis, *map(int, pair)) for axis, pair in enumerate(widths.array()) if any(pair)]
    if len(fill) != 1 or source.dtype != "float32" or not axes:
        return []
    found: list[Op] = []
    shape = list(source.shape)
    for number, (axis, before, after) in enumerate(axes):
        name = f"{op.outputs[0].name}/{number}"
        parts = [
            *_filled(f"{name}.before", shape, axis, before, fill[0]),
            source,
            *_filled(f"{name}.after", shape, axis, after, fill[0]),
        ]
        graph.tensors += [part for part in parts if part is not source]
        shape[axis] += before + after
        last = number == len(axes) - 1
        target = op.outputs[0] if last else Tensor(name, tuple(shape))
        if not last:
            graph.tensors.append(target)
        found.append(Op.make("CONCATENATION", parts, [target], axis=axis))
        source = target
    return found


def _filled(name: str, shape: list[int], axis: int, count: int, value: float) -> list[Tensor]:
    import numpy as np

    block = [*shape[:axis], count, *shape[axis + 1 :]]
    return [Tensor.constant(name, np.full(block, value, np.float32))] if count else []
