"""A float TFLite and the quantized one made of it, side by side: which tensor stands for which.

The quantizer keeps the names of tensors and puts QUANTIZE and DEQUANTIZE between them; so a
tensor of the quantized graph stands for the float one of its name, or for that of the tensor
that it was requantized from.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.errors import UnsupportedModel
from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Model, Op, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOVES = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True)
class Layer:
    """An operator of the quantized graph with the float one that makes the same tensor."""

    index: int
    op: Op
    original: Op | None
    reads: tuple[str, ...]
    """Float tensors that its changing inputs stand for, in order."""
    makes: str

    @property
    def name(self) -> str:
        return self.op.outputs[0].name

    @property
    def integer(self) -> bool:
        """Whether it computes in integers; moves between the two count as such."""
        makes = [tensor.dtype for tensor in self.op.outputs]
        return self.op.name in MOVES or any("int" in dtype for dtype in makes)


class Pair:
    """Both graphs, and the layers that can be measured one by one."""

    def __init__(self, original: Path, quantized: Path, strict: bool = True) -> None:
        self.original, self.quantized = loading.load(original), loading.load(quantized)
        self.made_by = {tensor.name: op for op in self.original.main.ops for tensor in op.outputs}
        self.known = {*self.made_by, *(tensor.name for tensor in self.original.main.inputs)}
        self.stands_for = _names(self.quantized, self.known)
        self.layers = list(self._layers())
        if strict and not any(layer.original is not None for layer in self.layers):
            raise UnsupportedModel(
                f"{quantized.name} was not made of {original.name}: no tensor has the same name",
                hint="give the float TFLite that the quantized one was made of.",
            )

    def _layers(self) -> Iterator[Layer]:
        for index, op in enumerate(self.quantized.main.ops):
            makes = self.stands_for.get(op.outputs[0].name, "")
            reads = tuple(self.stands_for.get(tensor.name, "") for tensor in changing(op))
            moved = op.name in MOVES and op.outputs[0].name not in self.made_by
            original = None if moved else self.made_by.get(makes)
            if makes and all(reads):
                yield Layer(index, op, original, reads, makes)


def _names(model: Model, known: set[str]) -> dict[str, str]:
    """Tensor of the quantized graph -> the float tensor that it stands for."""
    graph = model.main
    found = {tensor.name: tensor.name for tensor in graph.all_tensors() if tensor.name in known}
    for op in graph.ops:
        source = op.inputs[0] if op.inputs else None
        if op.name in MOVES and source is not None and source.name in found:
            found.setdefault(op.outputs[0].name, found[source.name])
    # What is quantized behind its maker has the float name at the end of the chain.
    for op in reversed(graph.ops):
        source = op.inputs[0] if op.inputs else None
        if op.name in MOVES and source is not None and op.outputs[0].name in found:
            found.setdefault(source.name, found[op.outputs[0].name])
    return found


def changing(op: Op) -> list[Tensor]:
    """The inputs that are no constants, each once."""
    return list(dict.fromkeys(tensor for tensor in op.reads() if not tensor.is_constant))


class Single:
    """One operator as a model of its own, run by LiteRT on real numbers."""

    def __init__(self, model: Model, op: Op) -> None:
        inputs = changing(op)
        content = saving.to_bytes(edit.extract(model, [op], inputs, op.outputs[:1]))
        self.interpreter = interpreter_of(content)
        self.inputs = self.interpreter.get_input_details()
        self.output = self.interpreter.get_output_details()[0]

    def rounded(self, values: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """The inputs as this operator can hold them."""
        return [
            dequantize(quantize(array, details), details)
            for array, details in zip(values, self.inputs, strict=True)
        ]

    def limits(self) -> tuple[float, float]:
        """The real numbers that the output can hold."""
        (scale, zero), dtype = self.output["quantization"], np.dtype(self.output["dtype"])
        if not scale or dtype.kind not in "iu":
            return -np.inf, np.inf
        stored = np.iinfo(dtype)
        return (stored.min - zero) * scale, (stored.max - zero) * scale

    def run(self, values: list[NDArray[Any]]) -> NDArray[Any]:
        for array, details in zip(values, self.inputs, strict=True):
            self.interpreter.set_tensor(details["index"], quantize(array, details))
        self.interpreter.invoke()
        return dequantize(self.interpreter.get_tensor(self.output["index"]), self.output)


def interpreter_of(content: bytes, **options: Any) -> Any:
    """The reference kernels' results differ by machine; these are LiteRT's own for this one."""
    litert = import_module("ai_edge_litert.interpreter")
    with warnings.catch_warnings():  # It warns of the memory that keeping all tensors takes.
        warnings.simplefilter("ignore")
        made = litert.Interpreter(model_content=content, num_threads=2, **options)
    made.allocate_tensors()
    return made


def quantize(array: NDArray[Any], details: dict[str, Any]) -> NDArray[Any]:
    """Real numbers as the tensor stores them."""
    scale, zero = details["quantization"]
    wanted = np.dtype(details["dtype"])
    array = array.reshape(details["shape"])
    if not scale or wanted.kind not in "iu" or array.dtype.kind != "f":
        return array.astype(wanted)
    limits = np.iinfo(wanted)
    stored = np.clip(np.rint(array / scale) + zero, limits.min, limits.max)
    found: NDArray[Any] = stored.astype(wanted)
    return found


def dequantize(array: NDArray[Any], details: dict[str, Any]) -> NDArray[Any]:
    scale, zero = details["quantization"]
    if not scale or array.dtype.kind not in "iu":
        return array
    real: NDArray[Any] = (array.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    return real
