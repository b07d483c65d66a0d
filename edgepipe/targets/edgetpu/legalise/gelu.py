"""GELU from operators that are mapped, within a known error: x * logistic(1.702 x)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.targets.edgetpu.legalise.steps import Steps
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.rewrite import Rewrite

SLOPE = 1.702
"""Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2."""
LARGEST_ERROR = 0.0204
"""Of it, over all numbers, at x = 2.27 and x = -2.27."""
OPEN = 8.0
"""Beyond it the logistic function is 0 or 1 in steps of 1/256."""


class Gelu(Rewrite):
    """The compiler knows no GELU, and its release of TensorFlow Lite neither.

    By tanh and a cube it would be nearer in floats, but the cube has a range that eight bits
    can't hold.
    """

    name: ClassVar[str] = "gelu"
    says: ClassVar[str] = (
        f"GELU became MUL, LOGISTIC, MUL: x * logistic({SLOPE} x), at most {LARGEST_ERROR} off"
    )
    limit_db: ClassVar[float] = 20.0
    integer_db: ClassVar[float | None] = 20.0

    def places(self, graph: Graph) -> Iterator[Op]:
        return (op for op in graph.operators("GELU") if Steps(op).plain)

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        steps = Steps(op)
        steep = steps.add("MUL", steps.source, SLOPE, within=(-OPEN, OPEN))
        gate = steps.add("LOGISTIC", steep, within=(0, 255 / 256))
        steps.add("MUL", steps.source, gate, last=True)
        edit.substitute(graph, [op], steps.ops)
        return True


REWRITE = Gelu()
