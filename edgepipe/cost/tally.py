"""What a network costs: each node's share, sums by type, totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edgepipe.cost.formulas import ELEMENTS, MACS, NO_DATA, PICKS, Formula
from edgepipe.cost.memory import Memory
from edgepipe.cost.network import LARGEST, Network, Node, Scale, Shape


@dataclass(frozen=True)
class Layer:
    """One node. None is what isn't known; `elements` is the work of a node without MACs."""

    index: int
    graph: str
    kind: str
    name: str
    shapes: tuple[Shape | None, ...]
    dtype: str
    macs: int | None
    elements: int | None
    parameters: int
    moved: int | None
    live: int | None
    counted: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "graph": self.graph,
            "type": self.kind,
            "name": self.name,
            "output_shapes": self.shapes,
            "dtype": self.dtype,
            "macs": self.macs,
            "elements": self.elements,
            "parameters": self.parameters,
            "bytes_moved": self.moved,
            "activation_bytes": self.live,
        }


@dataclass(frozen=True)
class Sum:
    """Figures over several layers; what is unknown adds nothing and is counted."""

    count: int = 0
    macs: int = 0
    elements: int = 0
    parameters: int = 0
    moved: int = 0
    unknown: int = 0
    unmoved: int = 0

    def plus(self, layer: Layer) -> Sum:
        return Sum(
            self.count + 1,
            self.macs + (layer.macs or 0),
            self.elements + (layer.elements or 0),
            self.parameters + layer.parameters,
            self.moved + (layer.moved or 0),
            self.unknown + (layer.macs is None or layer.elements is None),
            self.unmoved + (layer.moved is None),
        )

    @property
    def intensity(self) -> float | None:
        """Operations for each byte moved; a multiply-accumulate is two."""
        return (2 * self.macs + self.elements) / self.moved if self.moved else None

    def to_json(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "macs": self.macs,
            "elements": self.elements,
            "parameters": self.parameters,
            "bytes_moved": self.moved,
            "operations_per_byte": self.intensity,
            "unknown_macs": self.unknown,
            "unknown_bytes": self.unmoved,
        }


@dataclass(frozen=True)
class Cost:
    """What a model costs at one size of its inputs."""

    inputs: dict[str, Shape | None]
    layers: tuple[Layer, ...]
    total: Sum
    by_type: dict[str, Sum]
    peak: int
    peak_whole: bool
    """Whether every size that the peak depends on is known; at least so much where not."""
    peak_at: Layer | None
    stored: dict[str, tuple[int, int]]
    """dtype -> (elements, bytes) of all constants."""
    scales: dict[str, Scale]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "total": self.total.to_json(),
            "peak_activation_bytes": self.peak,
            "peak_is_whole": self.peak_whole,
            "peak_at": None
            if self.peak_at is None
            else {
                name: self.peak_at.to_json()[name] for name in ("index", "graph", "type", "name")
            },
            "by_type": {name: one.to_json() for name, one in self.by_type.items()},
            "constants": {
                name: {"elements": count, "bytes": size}
                for name, (count, size) in self.stored.items()
            },
            "quantization": {name: scale.to_json() for name, scale in self.scales.items()},
            "notes": list(self.notes),
            "layers": [layer.to_json() for layer in self.layers],
        }


@dataclass
class _Tally:
    network: Network
    memory: Memory
    seen: set[Any] = field(default_factory=set)
    layers: list[Layer] = field(default_factory=list)
    of_node: dict[Node, Layer] = field(default_factory=dict)

    def walk(self) -> None:
        for number in _reached(self.network):
            graph = self.network.graphs[number]
            for node in graph.nodes:
                layer = self.layer(len(self.layers), graph.name if number else "", node)
                self.layers.append(layer)
                self.of_node[node] = layer

    def layer(self, index: int, graph: str, node: Node) -> Layer:
        parameters = 0
        for value in (*node.reads(), *node.outputs):
            if value.weight and value.stored not in self.seen:
                self.seen.add(value.stored)
                parameters += value.elements or 0
        macs, elements = MACS.get(node.kind), ELEMENTS.get(node.kind)
        counted = macs is not None or elements is not None
        return Layer(
            index=index,
            graph=graph,
            kind=node.kind.removeprefix("onnx:"),
            name=node.name,
            shapes=tuple(value.shape for value in node.outputs),
            dtype=node.outputs[0].dtype if node.outputs else "",
            macs=_computed(macs, node) if macs else 0 if elements else None,
            elements=_computed(elements, node) if elements else 0 if macs else None,
            parameters=parameters,
            moved=moved(node),
            live=self.memory.live.get(node),
            counted=counted,
        )


def _computed(formula: Formula, node: Node) -> int | None:
    """A damaged file has nodes without outputs, and attributes and shapes that don't fit."""
    try:
        found = formula(node)
    except (TypeError, ValueError, IndexError, ArithmeticError):
        return None
    return None if found is None or not 0 <= found <= LARGEST else found


def moved(node: Node) -> int | None:
    """Bytes of all that the node reads and writes, each once."""
    if node.kind == "Constant" or node.bodies:
        return 0
    written = [value.nbytes for value in node.outputs]
    read = [] if node.kind in NO_DATA else [value.nbytes for value in dict.fromkeys(node.reads())]
    if node.kind in PICKS and read:
        read[0] = written[0] if written else 0
    sizes = [size for size in (*written, *read) if size is not None]
    return sum(sizes) if len(sizes) == len(written) + len(read) else None


def _reached(network: Network) -> Iterator[int]:
    """The first graph and every body that it leads to, each once, in order of appearance."""
    todo, seen = [0], {0}
    while todo:
        number = todo.pop(0)
        yield number
        for node in network.graphs[number].nodes:
            for body in node.bodies:
                if 0 <= body < len(network.graphs) and body not in seen:
                    seen.add(body)
                    todo.append(body)


def count(network: Network, notes: tuple[str, ...] = ()) -> Cost:
    """Every figure of a network."""
    tally = _Tally(network, Memory(network))
    tally.walk()
    total, by_type = Sum(), dict[str, Sum]()
    for layer in tally.layers:
        total = total.plus(layer)
        by_type[layer.kind] = by_type.get(layer.kind, Sum()).plus(layer)
    peak = tally.memory.peak
    main = network.main
    return Cost(
        inputs={value.name: value.shape for value in main.inputs},
        layers=tuple(tally.layers),
        total=total,
        by_type=dict(
            sorted(by_type.items(), key=lambda one: (-one[1].macs, -one[1].moved, one[0]))
        ),
        peak=peak.nbytes,
        peak_whole=peak.whole,
        peak_at=None if peak.node is None else tally.of_node.get(peak.node),
        stored=_stored(network),
        scales={one.name: one.scale for one in (*main.inputs, *main.outputs) if one.scale},
        notes=(*notes, *_notes(tally.layers, network)),
    )


def _stored(network: Network) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    seen = set()
    for value in network.constants:
        if value.stored in seen:
            continue
        seen.add(value.stored)
        count, size = found.get(value.dtype, (0, 0))
        found[value.dtype] = (count + (value.elements or 0), size + (value.nbytes or 0))
    return dict(sorted(found.items(), key=lambda one: -one[1][1]))


def _notes(layers: list[Layer], network: Network) -> Iterator[str]:
    strange = Counter(layer.kind for layer in layers if not layer.counted)
    if strange:
        listed = ", ".join(f"{count} {kind}" for kind, count in strange.most_common(8))
        more = f" and {len(strange) - 8} more types" if len(strange) > 8 else ""
        yield f"not counted, as no formula is known: {listed}{more}"
    unknown = sum(
        layer.counted and None in (layer.macs, layer.elements, layer.moved) for layer in layers
    )
    if unknown:
        yield f"not counted, as a shape is not known: {unknown} of {len(layers)} ops"
    if any(node.bodies for graph in network.graphs for node in graph.nodes):
        yield "each body of a loop or branch is counted once, however often it runs"
