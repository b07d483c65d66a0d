"""What each quantized layer adds to the error: alone, and at the outputs of the whole model.

1. A layer alone: its integer kernel and the float operator run on the same inputs, those of the
   float model, rounded as the layer can hold them. What differs is the layer's own.
2. At the end: that difference is added to the layer's output in the float model, through an
   input of its own, and all outputs are compared. Rounding errors add up in energy, so the
   shares of layers are those of the sum of their noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.proof import PERFECT_DB
from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Graph, Op, Tensor

from .paired_graphs import Layer, Pair, Single, interpreter_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = dict[str, NDArray[Any]]


@dataclass
class Noise:
    """Energies summed over samples."""

    signal: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    other: float = 0.0

    def add(self, wanted: NDArray[Any], received: NDArray[Any]) -> None:
        a = wanted.astype(np.float64, copy=False).ravel()
        b = received.astype(np.float64, copy=False).ravel()
        self.signal += float(a @ a)
        self.other += float(b @ b)
        self.product += float(a @ b)
        difference = a - b
        self.noise += float(difference @ difference)

    @property
    def sqnr_db(self) -> float:
        if self.noise == 0:
            return PERFECT_DB
        if self.signal == 0:
            return -PERFECT_DB
        return max(-PERFECT_DB, min(PERFECT_DB, 10 * math.log10(self.signal / self.noise)))

    @property
    def cosine(self) -> float:
        size = math.sqrt(self.signal * self.other)
        return self.product / size if size else float(self.signal == self.other)


@dataclass
class LayerError:
    """`own` of the layer alone; `final` by output of the model, empty where it wasn't measured."""

    layer: Layer
    own: Noise = field(default_factory=Noise)
    final: dict[str, Noise] = field(default_factory=dict)
    failed: str = ""


class Reference:
    """The float model, every tensor of it at hand after each sample."""

    def __init__(self, path: Path) -> None:
        self.interpreter = interpreter_of(path.read_bytes(), experimental_preserve_all_tensors=True)
        self.tensors = {
            details["name"]: details["index"] for details in self.interpreter.get_tensor_details()
        }

    def run(self, feeds: Sequence[NDArray[Any]]) -> None:
        for details, array in zip(self.interpreter.get_input_details(), feeds, strict=True):
            self.interpreter.set_tensor(details["index"], array.reshape(details["shape"]))
        self.interpreter.invoke()

    def value(self, name: str) -> NDArray[Any]:
        found: NDArray[Any] = self.interpreter.get_tensor(self.tensors[name])
        return found


class OwnErrors:
    """Every layer as a model of its own (1)."""

    def __init__(self, pair: Pair, originals: dict[str, Single] | None = None) -> None:
        """`originals` are float kernels by what they make, kept from one pair to the next."""
        originals = {} if originals is None else originals
        self.found = [LayerError(layer) for layer in pair.layers if layer.original is not None]
        self.kernels: dict[int, tuple[Single, Single]] = {}
        for error in self.found:
            assert error.layer.original is not None
            makes = error.layer.makes
            try:
                if makes not in originals:
                    originals[makes] = Single(pair.original, error.layer.original)
                quantized = Single(pair.quantized, error.layer.op)
                self.kernels[error.layer.index] = (quantized, originals[makes])
            except (RuntimeError, ValueError) as reason:
                error.failed = f"it can't be run alone: {reason}"

    def add(self, reference: Reference) -> Values:
        """Measure all layers on the sample that ran; the errors themselves, by tensor."""
        differences = {}
        for error in self.found:
            kernels = self.kernels.get(error.layer.index)
            if kernels is None:
                continue
            quantized, original = kernels
            values = [reference.value(name) for name in error.layer.reads]
            wanted = original.run(quantized.rounded(values))
            received = quantized.run(values).reshape(wanted.shape)
            error.own.add(wanted, received)
            if not math.isfinite(error.own.noise):
                error.failed = "alone, it gives NaN or infinity"
                del self.kernels[error.layer.index]
                continue
            if wanted.dtype == np.float32:
                differences[error.layer.makes] = received - wanted
        return differences


class Injection:
    """The float model with an input for an error behind each of some tensors (2)."""

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        model = loading.load(path)
        graph = model.main
        self.order = list(names)
        made = {tensor.name: tensor for op in graph.ops for tensor in op.outputs}
        self.count = len(graph.inputs)
        for place, name in enumerate(self.order):
            self._open(graph, made[name], place)
        model.signatures = []
        # Without the option, the memory of an input is used again once it was read.
        self.interpreter = interpreter_of(
            saving.to_bytes(model), experimental_preserve_all_tensors=True
        )
        self.inputs = self.interpreter.get_input_details()
        self.outputs = self.interpreter.get_output_details()
        self.zeros = [np.zeros(one["shape"], np.float32) for one in self.inputs[self.count :]]
        for details, zero in zip(self.inputs[self.count :], self.zeros, strict=True):
            self.interpreter.set_tensor(details["index"], zero)

    def _open(self, graph: Graph, tensor: Tensor, place: int) -> None:
        """`tensor` is made under another name, and the sum of it and of the error takes its own."""
        maker = graph.producer(tensor)
        assert maker is not None
        before = tensor.like(f"edgepipe_before_{place}")
        error = tensor.like(f"edgepipe_error_{place}")
        maker.outputs = [before if one is tensor else one for one in maker.outputs]
        added = Op.make("ADD", [before, error], [tensor], fused_activation_function="NONE")
        following = graph.ops[graph.ops.index(maker) + 1 :]
        if following:
            edit.insert(graph, [added], following[0])
        else:
            graph.ops.append(added)
        graph.inputs.append(error)

    def feed(self, feeds: Sequence[NDArray[Any]]) -> None:
        for details, array in zip(self.inputs[: self.count], feeds, strict=True):
            self.interpreter.set_tensor(details["index"], array.reshape(details["shape"]))

    def without_error(self) -> list[NDArray[Any]]:
        return [array.copy() for array in self._outputs()]

    def with_errors(self, errors: Values) -> list[NDArray[Any]]:
        """The outputs with errors behind some tensors at once."""
        places = [self.order.index(name) for name in errors]
        for place, error in zip(places, errors.values(), strict=True):
            index = self.inputs[self.count + place]["index"]
            self.interpreter.set_tensor(index, error.reshape(self.zeros[place].shape))
        outputs = self._outputs()
        for place in places:
            index = self.inputs[self.count + place]["index"]
            self.interpreter.set_tensor(index, self.zeros[place])
        return outputs

    def _outputs(self) -> list[NDArray[Any]]:
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(one["index"]) for one in self.outputs]


def follow(
    path: Path,
    errors: Sequence[LayerError],
    samples: Sequence[tuple[Sequence[NDArray[Any]], Values]],
    names: Sequence[str],
    deadline: float,
    in_groups: bool = False,
) -> None:
    """Fill `final` of the layers, the largest own errors first, until the time is over.

    In groups of neighbours, where there isn't the time for each, the noise of a group is shared
    out by what its layers have of their own: that says which matter, but not how much.
    """
    chosen = [error for error in errors if all(error.layer.makes in found for _, found in samples)]
    if not chosen:
        return
    injection = Injection(path, [error.layer.makes for error in chosen])
    clean = []
    start = time.monotonic()
    for feeds, _ in samples:
        injection.feed(feeds)
        clean.append(injection.without_error())
    left, once = deadline - time.monotonic(), (time.monotonic() - start) / len(samples)
    # All layers on one sample say more than some layers on all.
    samples = samples[: max(1, int(left / (once * len(chosen))))]
    size = max(1, math.ceil(once * len(chosen) / max(left, once))) if in_groups else 1
    if size == 1:
        chosen.sort(key=lambda error: error.own.sqnr_db)
    for at in range(0, len(chosen), size):
        if time.monotonic() > deadline and not in_groups:
            return
        group = chosen[at : at + size]
        final = {name: Noise() for name in names}
        for (feeds, differences), wanted in zip(samples, clean, strict=False):
            injection.feed(feeds)
            received = injection.with_errors(
                {error.layer.makes: differences[error.layer.makes] for error in group}
            )
            for name, a, b in zip(names, wanted, received, strict=True):
                final[name].add(a, b)
        _share_out(final, group)


def _share_out(final: dict[str, Noise], group: Sequence[LayerError]) -> None:
    if not all(math.isfinite(one.noise) for one in final.values()):
        for error in group:
            error.failed = "its error leads to NaN or infinity at the outputs"
        return
    own = [error.own.noise / error.own.signal if error.own.signal else 0.0 for error in group]
    for error, part in zip(group, own, strict=True):
        share = part / sum(own) if sum(own) else 1 / len(group)
        error.final = {
            name: replace(one, noise=one.noise * share) if len(group) > 1 else one
            for name, one in final.items()
        }
