"""Says a look-up in a table with the operator that has an integer form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op
from edgepipe.tflite.rewrite import Rewrite


class Embeddings(Rewrite):
    """EMBEDDING_LOOKUP, as litert-torch writes an embedding: GATHER along the first axis.

    ai-edge-quantizer 0.10 knows the first for its weights only, and leaves what it gives in float.
    """

    name: ClassVar[str] = "embeddings"
    says: ClassVar[str] = "EMBEDDING_LOOKUP became GATHER"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("EMBEDDING_LOOKUP"):
            table = op.inputs[1]
            if table is not None and table.is_constant and table.dtype == "float32":
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        ids, table = op.inputs
        edit.substitute(graph, [op], [Op.make("GATHER", [table, ids], op.outputs, axis=0)])
        return True


REWRITE = Embeddings()
