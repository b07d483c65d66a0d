"""The cheapest way to put nodes on two sides, where edges between the sides cost."""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Hashable

INFINITE = 1 << 40
NEAR, FAR = "near end", "far end"
"""The two nodes whose sides are given."""


class MinCut:
    """Edmonds and Karp's maximum flow; the graphs here have hundreds of nodes."""

    def __init__(self) -> None:
        self.left: dict[Hashable, dict[Hashable, int]] = defaultdict(dict)

    def edge(self, start: Hashable, end: Hashable, cost: int) -> None:
        """It costs when `start` is on the near side and `end` on the far one."""
        if start == end:
            return
        self.left[start][end] = self.left[start].get(end, 0) + cost
        self.left[end].setdefault(start, 0)

    def near_side(self) -> set[Hashable]:
        """The nodes on the near side of a cheapest cut."""
        while True:
            parents = self._reach()
            if FAR not in parents:
                return set(parents)
            self._augment(parents)

    def _reach(self) -> dict[Hashable, Hashable]:
        parents: dict[Hashable, Hashable] = {NEAR: NEAR}
        todo: deque[Hashable] = deque([NEAR])
        while todo:
            node = todo.popleft()
            for other, left in self.left[node].items():
                if left > 0 and other not in parents:
                    parents[other] = node
                    todo.append(other)
                    if other == FAR:
                        return parents
        return parents

    def _augment(self, parents: dict[Hashable, Hashable]) -> None:
        path: list[Hashable] = [FAR]
        while path[-1] != NEAR:
            path.append(parents[path[-1]])
        path.reverse()
        steps = list(itertools.pairwise(path))
        flow = min(self.left[a][b] for a, b in steps)
        for a, b in steps:
            self.left[a][b] -= flow
            self.left[b][a] += flow
