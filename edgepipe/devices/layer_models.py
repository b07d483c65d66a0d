"""Two forms of a TFLite model that show its operators: all tensors as outputs, and taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepipe.tflite import loading, saving
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.names import BITS

_NOT_APART = {"WHILE", "IF", "CALL", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}


@dataclass(frozen=True)
class Row:
    """One operator: the names under which its activations are found in what a board wrote."""

    place: int
    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[float | None, ...]
    """Of each output: one step of its integers, None where it is a float."""


@dataclass(frozen=True)
class Layers:
    """`apart` is None where operators can't be run by themselves, and `why` says why."""

    rows: tuple[Row, ...]
    probe: Path
    apart: Path | None
    why: str = ""


def write(model: Path, folder: Path) -> Layers:
    """Both forms in this folder. The numbers of the first are those of the model itself."""
    probe = loading.load(model)
    rows = _expose(probe.main)
    saving.save(probe, folder / "probe.tflite")
    why = _why_not(probe)
    if why:
        return Layers(rows, folder / "probe.tflite", None, why)
    apart = loading.load(model)
    _take_apart(apart, rows)
    saving.save(apart, folder / "apart.tflite")
    return Layers(rows, folder / "probe.tflite", folder / "apart.tflite")


def _expose(graph: Graph) -> tuple[Row, ...]:
    """Every operator's results become outputs; ends keep the names that callers know."""
    ends = {id(tensor) for tensor in (*graph.inputs, *graph.outputs)}
    rows, shown, real = [], list(graph.outputs), {}
    for place, op in enumerate(graph.ops):
        own = op.outputs[0].name if op.outputs else op.label
        for number, tensor in enumerate(op.outputs):
            if not _plain(tensor):
                continue
            real[id(tensor)] = tensor
            if id(tensor) not in ends:
                tensor.name = f"layer/{place}/{number}"
                shown.append(tensor)
        rows.append(_row(graph, place, op, own))
    graph.outputs = shown
    return tuple(rows)


def _row(graph: Graph, place: int, op: Op, name: str) -> Row:
    made = [tensor for tensor in op.outputs if _plain(tensor)]
    return Row(
        place,
        op.label,
        name,
        tuple(tensor.name for tensor in _activations(op)),
        tuple(tensor.name for tensor in made),
        tuple(_step(tensor) for tensor in made),
    )


def _take_apart(model: Model, rows: tuple[Row, ...]) -> None:
    """No operator reads another's result any more: each has inputs of its own name's value."""
    graph = model.main
    for row, op in zip(rows, graph.ops, strict=True):
        made = [tensor for tensor in op.outputs if _plain(tensor)]
        for tensor, name in zip(made, row.outputs, strict=True):
            tensor.name = name
    fed: dict[int, Tensor] = {}
    for op in graph.ops:
        for tensor in _activations(op):
            if id(tensor) not in fed:
                fed[id(tensor)] = tensor.like(f"fed/{tensor.name}")
        op.inputs = [fed.get(id(tensor), tensor) if tensor else None for tensor in op.inputs]
    graph.inputs = list(fed.values())
    graph.outputs = [tensor for op in graph.ops for tensor in op.outputs if _plain(tensor)]
    model.signatures = []


def _activations(op: Op) -> Iterator[Tensor]:
    return (tensor for tensor in op.inputs if tensor and not tensor.is_constant and _plain(tensor))


def _plain(tensor: Tensor) -> bool:
    """Whether numpy can hold it."""
    return tensor.dtype in BITS and BITS[tensor.dtype] >= 8 and tensor.dtype != "bfloat16"


def _step(tensor: Tensor) -> float | None:
    found = tensor.quantization
    return float(found.scales[0]) if found and found.scales else None


def _why_not(model: Model) -> str:
    graph = model.main
    if len(model.graphs) > 1 or any(op.name in _NOT_APART for op in graph.ops):
        return "it has branches or state, so its operators can't be run by themselves"
    if any(tensor.variable for op in graph.ops for tensor in op.inputs if tensor):
        return "it keeps state between runs, so its operators can't be run by themselves"
    if any(tensor.dynamic for op in graph.ops for tensor in op.outputs):
        return "its shapes are open, so its operators can't be run by themselves"
    return ""
