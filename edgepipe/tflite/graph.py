"""A TFLite model that can be changed: graphs of operators on tensors, held by reference.

    model = loading.load(path)
    graph = model.main
    for op in graph.operators("DIV"):
        ...
    saving.save(model, path)

A tensor is itself, not a number: operators, ends and signatures point at it, and the file's
numbers are dealt out when it is written. Constants are views of the file that was read; they
are never changed in place, but replaced.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.errors import UnsupportedModel
from edgepipe.tflite.names import BITS
from edgepipe.tflite.record import Record
from edgepipe.tflite.schema import options_of


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point); several scales lie along `axis`.

    `details` is what newer files keep beside it (blockwise and so on), `refers` the tensors that
    it names there.
    """

    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    minimum: tuple[float, ...] | None = None
    maximum: tuple[float, ...] | None = None
    details: Record | None = None
    refers: tuple[tuple[str, Tensor], ...] = ()

    @property
    def per_channel(self) -> bool:
        return len(self.scales) > 1

    def spread(self, rank: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Scales and zero points in a shape that broadcasts over a tensor of this rank."""
        shape = [1] * rank
        if self.per_channel:
            shape[self.axis] = len(self.scales)
        zeros = self.zero_points or (0,) * len(self.scales)
        return (
            np.asarray(self.scales, np.float32).reshape(shape),
            np.asarray(zeros, np.int64).reshape(shape),
        )


@dataclass(eq=False)
class Tensor:
    """`signature` has -1 for dimensions that may change, and is empty where none may."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    signature: tuple[int, ...] = ()
    quantization: Quantization | None = None
    data: NDArray[np.uint8] | None = field(default=None, repr=False)
    variable: bool = False
    has_rank: bool = False
    sparsity: Record | None = field(default=None, repr=False)
    variants: list[Record] | None = field(default=None, repr=False)

    @staticmethod
    def constant(
        name: str, values: Any, dtype: str = "", quantization: Quantization | None = None
    ) -> Tensor:
        """A tensor of these values; `dtype` where numpy's own isn't what is meant."""
        array = np.asarray(values, dtype or None)
        made = Tensor(name, array.shape, str(array.dtype), quantization=quantization)
        made.set(array)
        return made

    @property
    def is_constant(self) -> bool:
        return self.data is not None and len(self.data) > 0

    @property
    def dynamic(self) -> bool:
        return -1 in self.signature

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its values, whether it holds them or not."""
        return (self.elements * BITS.get(self.dtype, 0) + 7) // 8

    def array(self) -> NDArray[Any]:
        """The values as stored: a view that can't be written, or unpacked where they are packed."""
        if self.data is None:
            raise UnsupportedModel(f"tensor {self.name!r} is no constant: it has no values")
        if self.nbytes != len(self.data) or self.sparsity is not None:
            raise UnsupportedModel(
                f"constant {self.name!r} of {self.shape} {self.dtype} should take {self.nbytes} "
                f"bytes, and has {len(self.data)}",
                hint="sparse constants and texts have no values that numpy could show.",
            )
        if BITS[self.dtype] < 8:
            return _unpacked(self.data, self.dtype, self.elements).reshape(self.shape)
        if self.dtype == "bfloat16":
            halves: NDArray[Any] = self.data.view("<u2")
            wide: NDArray[Any] = (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
            return wide.reshape(self.shape)
        values: NDArray[Any] = self.data.view(np.dtype(self.dtype).newbyteorder("<"))
        return values.reshape(self.shape)

    def real(self) -> NDArray[Any]:
        """The values that are meant: those of a quantized constant as float32."""
        values = self.array()
        if self.quantization is None or not self.quantization.scales:
            return values
        scale, zero = self.quantization.spread(values.ndim)
        real: NDArray[Any] = ((values.astype(np.int64) - zero) * scale).astype(np.float32)
        return real

    def set(self, values: Any) -> None:
        """Give it other values of the same type; the shape becomes theirs."""
        array = np.ascontiguousarray(values, np.dtype(self.dtype).newbyteorder("<"))
        self.shape, self.signature = np.shape(values), ()
        self.data = array.reshape(-1).view(np.uint8)
        self.data.setflags(write=False)

    def like(self, name: str, **changes: Any) -> Tensor:
        """A new tensor with this one's shape and type, and without its values."""
        return replace(self, **{"name": name, "data": None, "variable": False, **changes})


def _unpacked(data: NDArray[np.uint8], dtype: str, count: int) -> NDArray[Any]:
    """Values of two or four bits, the lowest first in each byte."""
    bits = BITS[dtype]
    lanes = [(data >> np.uint8(shift)) & np.uint8(2**bits - 1) for shift in range(0, 8, bits)]
    values = np.stack(lanes, -1).reshape(-1)[:count]
    if dtype.startswith("u"):
        return values
    signed: NDArray[Any] = values.astype(np.int8)
    signed[values >= 2 ** (bits - 1)] -= np.int8(2**bits)
    return signed


@dataclass(eq=False)
class Op:
    """One operator. An input of None is left out; `custom` is its code where it is CUSTOM."""

    name: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: Record | None = None
    custom: str = ""
    custom_options: bytes | None = field(default=None, repr=False)
    version: int = 1
    rest: dict[str, Any] = field(default_factory=dict, repr=False)
    intermediates: list[Tensor | None] | None = None

    @staticmethod
    def make(
        name: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], **options: Any
    ) -> Op:
        """A builtin operator, its options checked against the schema."""
        kind = options_of(name)
        record = Record(kind, **options) if kind else None
        return Op(name, list(inputs), list(outputs), record)

    @property
    def label(self) -> str:
        return f"CUSTOM:{self.custom}" if self.name == "CUSTOM" else self.name

    def option(self, name: str) -> Any:
        """An option's value, the schema's default where the operator has no options.

        As in the runtime, options of another operator's kind count as none.
        """
        kind, given = options_of(self.name), self.options
        own = given is not None and kind in ("", given.kind)
        return getattr(given if own else Record(kind), name)

    @property
    def activation(self) -> str:
        """The one fused into it; "NONE" where it has none or can have none."""
        options = self.options
        if options is None or "fused_activation_function" not in options.values:
            return "NONE"
        return str(options.fused_activation_function)

    def reads(self) -> Iterator[Tensor]:
        return (tensor for tensor in self.inputs if tensor is not None)


@dataclass(eq=False)
class Graph:
    """Operators in the order in which they run. `tensors` holds those of the file, used or not."""

    name: str = ""
    tensors: list[Tensor] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    debug_metadata: int = -1

    def operators(self, *names: str) -> list[Op]:
        """Those of these kinds, as they stand now: the graph may be edited while they are gone
        through."""
        return [op for op in self.ops if op.name in names]

    def producer(self, tensor: Tensor) -> Op | None:
        return next((op for op in self.ops if tensor in op.outputs), None)

    def consumers(self, tensor: Tensor) -> list[Op]:
        return [op for op in self.ops if tensor in op.inputs]

    def all_tensors(self) -> list[Tensor]:
        """Those of the file first, then what editing brought in, in order of appearance."""
        found = dict.fromkeys(self.tensors)
        found.update(dict.fromkeys(self.inputs))
        for op in self.ops:
            found.update(dict.fromkeys(op.reads()))
            found.update(dict.fromkeys(op.outputs))
            found.update(dict.fromkeys(one for one in op.intermediates or () if one is not None))
        found.update(dict.fromkeys(self.outputs))
        for tensor in list(found):
            if tensor.quantization is not None:
                found.update(dict.fromkeys(other for _, other in tensor.quantization.refers))
        return list(found)

    def find(self, name: str) -> Tensor:
        for tensor in self.all_tensors():
            if tensor.name == name:
                return tensor
        raise UnsupportedModel(f"no tensor is called {name!r} in graph {self.name!r}")


@dataclass(eq=False)
class Signature:
    """Names that a converter gave to the ends of a graph."""

    key: str
    graph: Graph
    inputs: list[tuple[str, Tensor]]
    outputs: list[tuple[str, Tensor]]
    old_tag: str | None = None


@dataclass(eq=False)
class Model:
    graphs: list[Graph]
    signatures: list[Signature] = field(default_factory=list)
    metadata: list[tuple[str, bytes]] = field(default_factory=list)
    description: str = ""
    version: int = 3
    loose: list[bytes] | None = None
    """What `metadata_buffer` of old files lists, which nothing else names."""

    @property
    def main(self) -> Graph:
        return self.graphs[0]


def fresh_name(graph: Graph, wish: str) -> str:
    """The wish, or with a number behind it where a tensor has that name."""
    taken = {tensor.name for tensor in graph.all_tensors()}
    names: Iterable[str] = (wish, *(f"{wish}_{number}" for number in range(1, len(taken) + 2)))
    return next(name for name in names if name not in taken)
