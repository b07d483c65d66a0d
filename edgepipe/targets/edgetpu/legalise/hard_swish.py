"""HARD_SWISH from operators that are mapped: x * (relu6(x + 3) / 6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.targets.edgetpu.legalise.steps import Steps
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.rewrite import Rewrite


class HardSwish(Rewrite):
    """The compiler knows no HARD_SWISH.

    Equal in floats. In integers the gate has steps of 1/255, and each part rounds once.
    """

    name: ClassVar[str] = "hard_swish"
    says: ClassVar[str] = "HARD_SWISH became ADD with RELU6 and two MULs"
    integer_db: ClassVar[float | None] = 25.0

    def places(self, graph: Graph) -> Iterator[Op]:
        return (op for op in graph.operators("HARD_SWISH") if Steps(op).plain)

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        steps = Steps(op)
        x = steps.source
        cut = steps.add("ADD", x, 3.0, within=(0, 6), fused_activation_function="RELU6")
        gate = steps.add("MUL", cut, 1 / 6, within=(0, 1))
        steps.add("MUL", x, gate, last=True)
        edit.substitute(graph, [op], steps.ops)
        return True


REWRITE = HardSwish()
