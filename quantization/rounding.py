"""Rounds the weights of a quantized file anew, layer by layer, for what each layer gives.

The file is walked once, on all samples at a time. Before a layer runs, its integers are chosen
so that what it makes of its own inputs, with the errors of the layers before, comes nearest to
what the float layer makes of the float ones; its bias takes what is left on average. A layer is
only changed where samples that it didn't learn from are nearer, too. Types, scales and shapes
stay as they are, so whatever runs the file runs the other one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.errors import StageFailed
from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Graph, Model, Op, Tensor

from .layer_errors import Reference
from .least_squares import Form, rounded
from .linear_layers import Linear
from .paired_graphs import Pair, interpreter_of, quantize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = dict[str, NDArray[Any]]

ROWS, LEAST_ROWS, ROWS_OF_A_READING = 4096, 512, 8
"""Of a layer's input that are looked at, over all samples."""
LARGEST_WANTED = 32 << 20
"""Numbers that float layers make at those rows, which are kept for all layers at once."""
WIDEST = 4096
"""Readings of an output; the time grows with their cube."""
LARGEST_SUMS = 64 << 20
"""Numbers of the quadratic form of one layer."""
SMALL = 16_000_000
"""Weights of a model that a repair rounds anew."""
CHECKED = 4
"""Each fourth sample is not learnt from."""


@dataclass
class Site:
    """A layer whose weights can be rounded anew, and the float one."""

    linear: Linear
    original: Linear
    source: str

    def rows(self, most: int) -> int:
        """As many as tell its weights apart."""
        return min(most, max(LEAST_ROWS, ROWS_OF_A_READING * int(self.weights.shape[-1])))

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """Of the float layer; a copy, as BLAS is slow on what lies in a file."""
        matrix = self.original.matrix(self.original.weights.array())
        return np.array(matrix, np.float32, order="C")

    def scales(self) -> NDArray[np.float64]:
        """group x output x 1."""
        weights = self.linear.weights
        assert weights.quantization is not None
        scale, _ = weights.quantization.spread(len(weights.shape))
        by_weight = self.linear.matrix(np.broadcast_to(scale, weights.shape))
        return by_weight[:, :, :1].astype(np.float64)

    def made(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the float layer makes of its rows, without its bias."""
        if len(rows) == 1:
            return np.asarray((rows[0] @ self.weights[0].T)[None])
        # As many products of small matrices as there are channels take far longer.
        return np.asarray(np.einsum("grk,gok->gro", rows, self.weights))

    def shift(self) -> NDArray[np.float64]:
        """What the integer layer's bias adds to the float one's; group x output."""
        like = self.scales()[:, :, 0]
        if self.linear.bias is None:
            return np.zeros_like(like)
        given = 0.0 if self.original.bias is None else self.original.bias.array().reshape(-1)
        found: NDArray[np.float64] = (self.linear.bias.real().reshape(-1) - given).reshape(
            like.shape
        )
        return found

    def set_shift(self, shift: NDArray[np.float64]) -> None:
        bias = self.linear.bias
        assert bias is not None and bias.quantization is not None
        real = shift.reshape(-1)
        if self.original.bias is not None:
            real = real + self.original.bias.array().reshape(-1)
        limits, (scale, _) = np.iinfo(bias.dtype), bias.quantization.spread(1)
        bias.set(np.clip(np.rint(real / scale), limits.min, limits.max).reshape(bias.shape))


def small(path: Path) -> bool:
    """Whether a model has so few weights that this is done in minutes."""
    graph = loading.load(path).main
    sizes = {id(one): one.elements for op in graph.ops for one in op.reads() if one.is_constant}
    return sum(sizes.values()) <= SMALL


def round_anew(
    original: Path,
    quantized: Path,
    samples: Sequence[Sequence[NDArray[Any]]],
    out: Path,
    deadline: float = math.inf,
) -> int:
    """Write the file with other integers; how many layers got some. Late, it gives up."""
    pair = Pair(original, quantized)
    sites = _sites(pair)
    if not sites or len(samples) < CHECKED:
        return 0
    wanted = _wanted(original, list(sites.values()), samples)
    walk = Walk(pair.quantized, samples)
    count = 0
    for place, op in enumerate(pair.quantized.main.ops):
        site = sites.get(id(op))
        if site is None:
            continue
        if time.monotonic() > deadline:
            raise StageFailed("there was no time left to round all layers anew")
        walk.to(place)
        count += _round(site, walk.real(op.inputs[0]), wanted.pop(id(op)))
    if count:
        saving.save(pair.quantized, out)
    return count


def _sites(pair: Pair) -> dict[int, Site]:
    """Operator's id -> layer; weights that several layers share stay as they are."""
    readers: dict[int, int] = {}
    for graph in pair.quantized.graphs:
        for op in graph.ops:
            for tensor in op.reads():
                readers[id(tensor)] = readers.get(id(tensor), 0) + 1
    sites = {}
    for layer in pair.layers:
        linear = Linear.of(layer.op)
        original = Linear.of(layer.original) if layer.original is not None else None
        if linear is None or original is None or len(layer.reads) != 1:
            continue
        constants = [one for one in (linear.weights, linear.bias) if one is not None]
        if any(readers[id(one)] > 1 for one in constants) or not _integers(linear):
            continue
        groups, outputs, readings = linear.matrix(linear.weights.array()).shape
        small = groups * readings * (readings + outputs) <= LARGEST_SUMS and readings <= WIDEST
        if small and linear.weights.shape == original.weights.shape:
            sites[id(layer.op)] = Site(linear, original, layer.reads[0])
    return sites


def _integers(linear: Linear) -> bool:
    data, weights, bias = linear.op.inputs[0], linear.weights, linear.bias
    scaled = weights.quantization is not None and not any(weights.quantization.zero_points)
    known = data is not None and data.dtype in ("int8", "int16") and data.quantization is not None
    whole = bias is None or (bias.quantization is not None and "int" in bias.dtype)
    return scaled and known and whole and weights.dtype == "int8"


def _wanted(
    original: Path, sites: Sequence[Site], samples: Sequence[Sequence[NDArray[Any]]]
) -> dict[int, list[NDArray[Any]]]:
    """What each float layer makes at the rows that are looked at, without its bias."""
    outputs = sum(site.linear.op.outputs[0].shape[-1] for site in sites)
    most = max(LEAST_ROWS, min(ROWS, LARGEST_WANTED // outputs))
    counts = [-(-site.rows(most) // len(samples)) for site in sites]
    reference = Reference(original)
    found: dict[int, list[NDArray[Any]]] = {id(site.linear.op): [] for site in sites}
    for number, sample in enumerate(samples):
        reference.run(sample)
        for site, count in zip(sites, counts, strict=True):
            read = site.original.rows(reference.value(site.source), count, _chance(number))
            found[id(site.linear.op)].append(site.made(read))
    return found


def _chance(number: int) -> np.random.Generator:
    """The same rows of a sample for the float and for the integer layer."""
    return np.random.default_rng(number)


def _round(site: Site, data: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]) -> bool:
    """Other integers for each of a layer's outputs that gains by them."""
    linear = site.linear
    stored = linear.matrix(linear.weights.array().astype(np.float64))
    learnt, checked = Form(*stored.shape), Form(*stored.shape)
    rows = [
        linear.rows(array, made.shape[1], _chance(number))
        for number, (array, made) in enumerate(zip(data, wanted, strict=True))
    ]
    for form, held_out in ((learnt, False), (checked, True)):
        some = [n for n in range(len(rows)) if (n % CHECKED == CHECKED - 1) is held_out]
        form.add(*(np.concatenate([of[n] for n in some], 1) for of in (rows, wanted)))
    scales = site.scales()
    biased = linear.bias is not None
    squares, products = learnt.centred() if biased else learnt.means()
    integers = rounded(squares, products, site.weights.astype(np.float64), scales)
    before = site.shift()
    after = learnt.bias(integers * scales) if biased else before
    better = checked.error(integers * scales, after) < checked.error(stored * scales, before)
    linear.weights.set(
        linear.shaped(np.where(better[:, :, None], integers, stored)).astype(np.int8)
    )
    if biased:
        site.set_shift(np.where(better, after, before))
    return bool(better.any())


class Walk:
    """A graph run piece by piece, on all samples at a time; what is no longer read is let go."""

    def __init__(self, model: Model, samples: Sequence[Sequence[NDArray[Any]]]) -> None:
        self.model, self.graph = model, model.main
        self.place = 0
        self.values: list[dict[int, NDArray[Any]]] = []
        for sample in samples:
            fed = zip(self.graph.inputs, sample, strict=True)
            self.values.append({id(tensor): _stored(array, tensor) for tensor, array in fed})

    def to(self, place: int) -> None:
        """Run all operators before this one."""
        piece = self.graph.ops[self.place : place]
        self.place = place
        if not piece:
            return
        reads, makes = _ends(self.graph, piece, self.graph.ops[place:])
        content = saving.to_bytes(edit.extract(self.model, piece, reads, makes))
        interpreter = interpreter_of(content)
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        needed = {id(one) for op in self.graph.ops[place:] for one in op.reads()}
        for values in self.values:
            for details, tensor in zip(inputs, reads, strict=True):
                interpreter.set_tensor(details["index"], values[id(tensor)])
            interpreter.invoke()
            for details, tensor in zip(outputs, makes, strict=True):
                values[id(tensor)] = interpreter.get_tensor(details["index"])
            for key in [key for key in values if key not in needed]:
                del values[key]

    def real(self, tensor: Tensor | None) -> list[NDArray[Any]]:
        """What a tensor holds for each sample, as real numbers."""
        assert tensor is not None and tensor.quantization is not None
        scale, zero = tensor.quantization.spread(len(tensor.shape))
        return [(values[id(tensor)].astype(np.float32) - zero) * scale for values in self.values]


def _ends(
    graph: Graph, piece: Sequence[Op], later: Sequence[Op]
) -> tuple[list[Tensor], list[Tensor]]:
    """What a piece reads of those before it, and what it makes for those behind it."""
    made = {id(tensor): tensor for op in piece for tensor in op.outputs}
    read = [tensor for op in piece for tensor in op.reads()]
    wanted = {id(tensor) for op in later for tensor in op.reads()}
    reads = [one for one in read if id(one) not in made and not one.is_constant]
    return list(dict.fromkeys(reads)), [one for key, one in made.items() if key in wanted]


def _stored(array: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    scale, zero = (0.0, 0)
    if tensor.quantization is not None and tensor.quantization.scales:
        scale, zero = tensor.quantization.scales[0], (*tensor.quantization.zero_points, 0)[0]
    details = {"quantization": (scale, zero), "dtype": tensor.dtype, "shape": tensor.shape}
    return quantize(array, details)
