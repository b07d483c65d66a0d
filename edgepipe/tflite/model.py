"""A TFLite model as data: subgraphs of tensors and operators, as the file says them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.artifact import Port, Signature
from edgepipe.tflite.names import WEIGHT_TYPES


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point); per channel along `axis` where there are several."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True)
class Tensor:
    """`signature` has -1 for dimensions that may change; `start` is where its bytes are."""

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    quantization: Quantization | None
    buffer: int
    start: int
    size: int
    variable: bool

    @property
    def constant(self) -> bool:
        return self.size > 0

    def port_shape(self) -> tuple[int | None, ...]:
        return tuple(None if size < 0 else size for size in self.signature or self.shape)


@dataclass(frozen=True)
class Operator:
    """`name` is the builtin's, or CUSTOM with the custom code in `custom`.

    An input of -1 is left out. `activation` is the one fused into it, "" where it can have none.
    """

    name: str
    version: int
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str = ""

    @property
    def label(self) -> str:
        return f"CUSTOM:{self.custom}" if self.name == "CUSTOM" else self.name


@dataclass(frozen=True)
class Subgraph:
    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class SignatureDef:
    """Names that a converter gave to the ends of a subgraph: (name, tensor index) pairs."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class TfliteModel:
    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[SignatureDef, ...]
    metadata: tuple[str, ...]
    source: bytes | mmap = field(repr=False, compare=False)

    @property
    def main(self) -> Subgraph:
        return self.subgraphs[0]

    def ops(self) -> dict[str, int]:
        """Operators by name over all subgraphs, most frequent first."""
        counts = Counter(op.label for graph in self.subgraphs for op in graph.operators)
        return dict(counts.most_common())

    def parameters(self) -> int:
        """Elements of constant tensors that hold weights; a buffer used twice counts once."""
        seen: dict[int, int] = {}
        for graph in self.subgraphs:
            for tensor in graph.tensors:
                if tensor.constant and tensor.dtype in WEIGHT_TYPES:
                    seen[tensor.buffer] = math.prod(tensor.shape)
        return sum(seen.values())

    def quantized(self) -> int:
        """Tensors that are stored as integers and stand for real numbers."""
        return sum(
            tensor.quantization is not None and "int" in tensor.dtype
            for graph in self.subgraphs
            for tensor in graph.tensors
        )

    def signature(self) -> Signature:
        """The ends of the main subgraph, by the names that its signature gives where it has one."""
        inputs, outputs = self._given_names()
        return Signature(
            tuple(self._port(index, inputs) for index in self.main.inputs),
            tuple(self._port(index, outputs) for index in self.main.outputs),
        )

    def never_made(self) -> list[str]:
        """Tensors that an operator reads before anything made them: the file can't run."""
        missing: dict[str, None] = {}
        for graph in self.subgraphs:
            made = set(graph.inputs)
            for op in graph.operators:
                for index in op.inputs:
                    tensor = graph.tensors[index] if index >= 0 else None
                    if tensor is None or index in made or tensor.constant or tensor.variable:
                        continue
                    if 0 not in tensor.shape:  # an empty constant has no bytes either
                        missing[tensor.name] = None
                made.update(op.outputs)
        return list(missing)

    def constant(self, tensor: Tensor) -> NDArray[Any] | None:
        """The values of a constant tensor, None where it has none or a type that numpy lacks."""
        try:
            dtype = np.dtype(tensor.dtype).newbyteorder("<")
        except TypeError:
            return None
        count = math.prod(tensor.shape)
        if not tensor.constant or dtype.itemsize * count != tensor.size:
            return None
        values: NDArray[Any] = np.frombuffer(self.source, dtype, count, tensor.start).copy()
        return values.reshape(tensor.shape)

    def _port(self, index: int, names: dict[int, str]) -> Port:
        tensor = self.main.tensors[index]
        return Port(
            name=names.get(index, tensor.name),
            shape=tensor.port_shape(),
            dtype=tensor.dtype,
            tensor=tensor.name,
        )

    def _given_names(self) -> tuple[dict[int, str], dict[int, str]]:
        for signature in self.signatures:
            if signature.subgraph == 0:
                return (
                    {index: name for name, index in signature.inputs},
                    {index: name for name, index in signature.outputs},
                )
        return {}, {}
