"""How much activations take at each node: what was made and is still read later."""

from __future__ import annotations

from dataclasses import dataclass

from edgepipe.cost.network import Graph, Network, Node, Value

_DEEPEST = 32
"""Levels of bodies; real models have two or three."""


@dataclass(frozen=True)
class Peak:
    """Bytes at the worst node of a graph; at least so many where it isn't `whole`."""

    nbytes: int
    node: Node | None
    whole: bool = True


class Memory:
    """Activation bytes of every node, bodies included. Nothing shares memory, nothing is split."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.live: dict[Node, int | None] = {}
        self.peaks: dict[int, Peak] = {}
        self.peak = self.of(0, frozenset())

    def of(self, number: int, above: frozenset[int]) -> Peak:
        """The peak of one graph. A graph that runs itself is a damaged file's: it adds nothing."""
        if number in self.peaks:
            return self.peaks[number]
        if number in above or not 0 <= number < len(self.network.graphs):
            return Peak(0, None)
        if len(above) > _DEEPEST:
            return Peak(0, None, whole=False)
        graph = self.network.graphs[number]
        last = _last_use(self.network, graph)
        worst: Peak = Peak(0, None)
        now, unknown, whole = 0, 0, True
        ends: dict[int, list[Value]] = {}
        for value, place in last.items():
            ends.setdefault(place, []).append(value)
        # What an operator keeps from one run to the next is there from the beginning.
        kept = [value for node in graph.nodes for value in node.reads() if value.variable]
        alive = {value for value in (*graph.inputs, *kept) if not value.constant}
        for value in alive:
            now, unknown = now + (value.nbytes or 0), unknown + (value.nbytes is None)
        for place, node in enumerate(graph.nodes):
            for value in dict.fromkeys(node.outputs):
                if value not in alive and not value.constant:
                    alive.add(value)
                    now, unknown = now + (value.nbytes or 0), unknown + (value.nbytes is None)
            inside = [self.of(body, above | {number}) for body in node.bodies]
            total = now + max((peak.nbytes for peak in inside), default=0)
            known = not unknown and all(peak.whole for peak in inside)
            self.live[node] = total if known else None
            whole = whole and known
            if total > worst.nbytes or worst.node is None:
                worst = Peak(total, node)
            for value in (*ends.get(place, ()), *node.outputs):
                if value in alive and last.get(value, place) <= place:
                    alive.discard(value)
                    now, unknown = now - (value.nbytes or 0), unknown - (value.nbytes is None)
        self.peaks[number] = Peak(worst.nbytes, worst.node, whole)
        return self.peaks[number]


def _last_use(network: Network, graph: Graph) -> dict[Value, int]:
    """The last node that reads each value, itself or in a body; one past the end for outputs."""
    last: dict[Value, int] = dict.fromkeys(graph.inputs, 0)
    for place, node in enumerate(graph.nodes):
        for value in _reads(network, node):
            last[value] = place
    for value in graph.outputs:
        last[value] = len(graph.nodes)
    last.update({value: len(graph.nodes) for value in last if value.variable})
    return last


def _reads(network: Network, node: Node) -> set[Value]:
    found, todo, seen = set(node.reads()), list(node.bodies), set(node.bodies)
    while todo:
        number = todo.pop()
        if not 0 <= number < len(network.graphs):
            continue
        body = network.graphs[number]
        found.update(body.outputs)
        for inner in body.nodes:
            found.update(inner.reads())
            todo.extend(one for one in inner.bodies if one not in seen)
            seen.update(inner.bodies)
    return found
