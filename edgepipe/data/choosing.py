"""Which samples are taken: a seeded choice that keeps the shares of the labels."""

from __future__ import annotations

from collections.abc import Sequence

from edgepipe.errors import SamplesError


def order(count: int, labels: Sequence[int | None] | None, seed: int) -> list[int]:
    """All indices, so that every beginning of the list holds the labels in their proportion.

    Within a label the order is random; a label's n-th of N stands at (n + ½) / N of the list.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    shuffled = [int(index) for index in random.permutation(count)]
    if labels is None:
        return shuffled
    members: dict[int | None, list[int]] = {}
    for index in shuffled:
        members.setdefault(labels[index], []).append(index)
    places = {
        index: (number + 0.5) / len(group)
        for group in members.values()
        for number, index in enumerate(group)
    }
    return sorted(shuffled, key=lambda index: places[index])


def choose(
    count: int, labels: Sequence[int | None] | None, limit: int | None, seed: int
) -> list[int]:
    """`limit` of `count` indices, in ascending order; all where there are no more than that."""
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(order(count, labels, seed)[:limit])


def split(
    chosen: Sequence[int], labels: Sequence[int | None] | None, held_out: float, seed: int
) -> tuple[list[int], list[int]]:
    """Two disjoint parts of what was chosen; `held_out` is a share below 1, or a number."""
    number = round(held_out * len(chosen)) if held_out < 1 else int(held_out)
    number = max(1, number)
    if held_out <= 0 or number >= len(chosen):
        raise SamplesError(
            f"{len(chosen)} samples can't be split with {held_out:g} of them held out",
            hint="give more samples, or hold out fewer.",
        )
    own = None if labels is None else [labels[index] for index in chosen]
    ranks = order(len(chosen), own, seed + 1)  # Another order than the one that chose them.
    kept, apart = sorted(ranks[number:]), sorted(ranks[:number])
    return [chosen[rank] for rank in kept], [chosen[rank] for rank in apart]
