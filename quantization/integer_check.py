"""Whether a TFLite that shall be all integer is so: the operators that are still in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgepipe import catalog
from edgepipe.artifact import Format
from edgepipe.errors import BrokenOutput, StageFailed
from edgepipe.identify import identify
from edgepipe.tflite import reader
from edgepipe.tflite.model import Operator, Subgraph

FLOATS = ("float32", "float16", "bfloat16", "float64")
BRIDGES = ("QUANTIZE", "DEQUANTIZE")
MOST_NAMED = 5


def check(path: Path, scheme: str, ends: str, allow_float: bool) -> list[str]:
    """Refuse a file that isn't what was asked for; what is worth noting of one that is."""
    check_ends(path, ends)
    if identify(path) is not Format.TFLITE_QUANTIZED:
        raise StageFailed(
            f"{scheme} was asked for, and nothing in the file is quantized",
            hint="TFLiteConverter leaves weights of fewer than 1,024 elements as they are.",
        )
    left = float_operators(path) if scheme in catalog.CALIBRATED else []
    if not left:
        return []
    words = f"{len(left)} operators stay in float: {words_for(left)}"
    if not allow_float:
        raise StageFailed(
            f"{scheme} was asked for, and {words}",
            hint="--allow-float leaves them in float, where the target can run that.",
        )
    return [words]


def float_operators(path: Path) -> list[tuple[str, str]]:
    """(operator, name of its first output) of each that computes in float."""
    return [
        (op.label, graph.tensors[op.outputs[0]].name if op.outputs else "")
        for graph in reader.read(path).subgraphs
        for op in graph.operators
        if op.name not in BRIDGES and _is_float(op, graph)
    ]


def words_for(found: Sequence[tuple[str, str]]) -> str:
    """`RELU6 (1), SIN (2)`, and where they stand."""
    counts = Counter(label for label, _ in found)
    named = ", ".join(name for _, name in found[:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    listed = ", ".join(f"{label} ({count})" for label, count in counts.most_common())
    return f"{listed}, at {named}{more}"


def check_ends(path: Path, wanted: str) -> None:
    """The types asked for at the ends are those in the file; ends that hold no reals stay."""
    main = reader.read(path).main
    for kind, indices in (("input", main.inputs), ("output", main.outputs)):
        for index in indices:
            tensor = main.tensors[index]
            real = tensor.dtype in FLOATS or tensor.quantization is not None
            if real and tensor.dtype != wanted:
                raise BrokenOutput(
                    f"{kind} {tensor.name!r} is {tensor.dtype}, {wanted} was asked for"
                )


def _is_float(op: Operator, graph: Subgraph) -> bool:
    return any(
        graph.tensors[index].dtype in FLOATS for index in (*op.inputs, *op.outputs) if index >= 0
    )
