"""Whether a compiled file has the ends of the model that it was made of."""

from __future__ import annotations

from collections.abc import Sequence

from edgepipe.tflite.graph import Graph, Tensor


def differences(source: Graph, compiled: Graph) -> list[str]:
    """Names, shapes, types and quantization of inputs and outputs, in order."""
    return [
        *_of_kind("input", source.inputs, compiled.inputs),
        *_of_kind("output", source.outputs, compiled.outputs),
    ]


def chain(graphs: Sequence[Graph]) -> list[str]:
    """Segments hand on what they made: each input is the model's or an earlier segment's output."""
    known = {one.name: one for one in graphs[0].inputs} if graphs else {}
    found = []
    for number, graph in enumerate(graphs):
        for one in graph.inputs:
            if one.name not in known:
                found.append(f"segment {number} wants {one.name!r}, which no earlier one makes")
            elif _facts(one) != _facts(known[one.name]):
                found.append(f"segment {number} takes {one.name!r} as something else")
        known |= {one.name: one for one in graph.outputs}
    return found


def _of_kind(kind: str, wanted: Sequence[Tensor], received: Sequence[Tensor]) -> list[str]:
    names, others = [one.name for one in wanted], [one.name for one in received]
    if names != others:
        return [f"{kind}s {others}, expected {names}"]
    found = []
    for one, other in zip(wanted, received, strict=True):
        expected, came = _facts(one), _facts(other)
        found += [
            f"{kind} {one.name!r} has {what} {came[what]}, expected {expected[what]}"
            for what in expected
            if expected[what] != came[what]
        ]
    return found


def _facts(tensor: Tensor) -> dict[str, object]:
    scaled = tensor.quantization
    return {
        "shape": tensor.shape,
        "type": tensor.dtype,
        "scale": scaled.scales if scaled else (),
        "zero point": scaled.zero_points if scaled else (),
    }
