"""The best cut of a model into segments for a row of Edge TPUs, by the estimate of the slowest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from edgepipe.errors import UnsupportedModel
from edgepipe.targets.edgetpu import workload
from edgepipe.targets.edgetpu.host_profile import HostProfile
from edgepipe.targets.edgetpu.memory import MIB
from edgepipe.targets.edgetpu.workload import Work
from edgepipe.tflite.graph import Graph, Tensor

FEW = 2
"""Tensors that may cross a cut: each is sent from device to device at every inference."""


@dataclass(frozen=True)
class Segment:
    """Operators from `first` to before `end`; sizes in MiB, time in milliseconds."""

    first: int
    end: int
    milliseconds: float
    computing: float
    """Without what it sends and takes."""
    parameters: float
    streamed: float
    outputs: tuple[str, ...]


def cut(graph: Graph, count: int, host: HostProfile, cache: float) -> list[Segment]:
    """`cache` is what a device keeps, in MiB. The slowest segment decides, then their sum."""
    places = _places(graph)
    if len(places) - 1 < count:
        raise UnsupportedModel(
            f"the model can be cut at {len(places) - 2} places where at most {FEW} tensors cross,"
            f" too few for {count} segments",
            hint=f"ask for at most {len(places) - 1} segments.",
        )
    work = list(itertools.accumulate(map(workload.of_op, graph.ops), initial=Work()))
    ends = {place: sum(one.nbytes for one in crossed) / MIB for place, crossed in places.items()}

    def segment(first: int, end: int) -> Segment:
        done, begun = work[end], work[first]
        own = Work(
            done.gmac - begun.gmac,
            done.activations - begun.activations,
            max(0.0, done.parameters - begun.parameters),
        )
        streamed = max(0.0, own.parameters - cache)
        alone = host.milliseconds(own, streamed, 0)
        time = host.milliseconds(own, streamed, ends[first] + ends[end])
        names = tuple(one.name for one in places[end])
        return Segment(first, end, time, alone, own.parameters, streamed, names)

    return _best(list(places), count, segment)


def _best(places: list[int], count: int, segment: Callable[[int, int], Segment]) -> list[Segment]:
    """By dynamic programming over the places: of all ways to a place in k segments, the best."""
    best: dict[int, tuple[float, float, list[Segment]]] = {places[0]: (0.0, 0.0, [])}
    for number in range(1, count + 1):
        reached: dict[int, tuple[float, float, list[Segment]]] = {}
        last = number == count
        for end in [places[-1]] if last else places[1:-1]:
            found = (math.inf, math.inf, list[Segment]())
            # From the shortest segment on: once it is too long without what it sends, so are all.
            for first in sorted((one for one in best if one < end), reverse=True):
                slowest, total, before = best[first]
                one = segment(first, end)
                if one.computing > found[0]:
                    break
                key = (max(slowest, one.milliseconds), total + one.milliseconds)
                if key < found[:2]:
                    found = (*key, [*before, one])
            if found[2]:
                reached[end] = found
        best = reached
    return best[places[-1]][2]


def _places(graph: Graph) -> dict[int, list[Tensor]]:
    """Where few tensors cross, with those; the two ends of the model are always among them."""
    last = {id(one): place for place, op in enumerate(graph.ops) for one in op.reads()}
    alive = {id(one): one for one in graph.inputs}
    places = {0: list(graph.inputs)}
    for place, op in enumerate(graph.ops):
        alive.update((id(one), one) for one in op.outputs)
        alive = {key: one for key, one in alive.items() if last.get(key, -1) > place}
        if 0 < len(alive) <= FEW and place + 1 < len(graph.ops):
            places[place + 1] = list(alive.values())
    places[len(graph.ops)] = list(graph.outputs)
    return places
