"""A small float TFLite that tests put together layer by layer, without a framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepipe.tflite import saving
from edgepipe.tflite.graph import Graph, Model, Op, Signature, Tensor

SIZE = 16


class Net:
    """A small float TFLite: dense layers on sixteen numbers, and what is put between them."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.input = Tensor("x", (1, SIZE))
        self.graph = Graph("main", inputs=[self.input])

    def op(self, kind: str, name: str, *inputs: Tensor, size: int = SIZE, **options: Any) -> Tensor:
        output = Tensor(name, (1, size))
        self.graph.ops.append(Op.make(kind, inputs, [output], **options))
        return output

    def dense(
        self, name: str, x: Tensor, gain: Any = 1.0, bias: float = 0.0, columns: Any = 1.0
    ) -> Tensor:
        weights = self.random.standard_normal((SIZE, SIZE)).astype(np.float32) / 4
        weights *= np.asarray(gain, np.float32).reshape(-1, 1)
        weights *= np.asarray(columns, np.float32)
        return self.op(
            "FULLY_CONNECTED",
            name,
            x,
            Tensor.constant(f"{name}_weights", weights),
            Tensor.constant(f"{name}_bias", np.full(SIZE, bias, np.float32)),
            fused_activation_function="NONE",
        )

    def save(self, path: Path, *outputs: Tensor) -> Path:
        self.graph.outputs = list(outputs)
        model = Model([self.graph])
        ends = [(f"output_{place}", tensor) for place, tensor in enumerate(outputs)]
        model.signatures = [Signature("serving_default", self.graph, [("x", self.input)], ends)]
        saving.save(model, path)
        return path
