"""A beginning or an end of the model in float, as short as reaches the goal.

In a spectrogram made by convolutions, with a logarithm behind it, or a head that decodes boxes,
one tensor in integers between two in float spoils what the others gained: of basic-pitch's 183
layers 137 in float, chosen by their noise, left 9 dB, and the first 79 reach 21.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

FINE = 64
"""The border is found to a 64th of the model."""


def shortest(names: Sequence[str], look: Callable[[set[str]], bool]) -> None:
    """`look` says whether these in float are enough, and False at once when it is too late."""
    ends: tuple[Callable[[int], set[str]], ...] = (
        lambda count: set(names[:count]),
        lambda count: set(names[len(names) - count :]),
    )
    for share in (2, 4):  # Half of the model, then three quarters.
        count = len(names) - len(names) // share
        for end in ends:
            if look(end(count)):
                _cut(end, count, max(1, len(names) // FINE), look)
                return


def _cut(
    end: Callable[[int], set[str]], enough: int, fine: int, look: Callable[[set[str]], bool]
) -> None:
    short = 0
    while enough - short > fine:
        middle = (enough + short) // 2
        if look(end(middle)):
            enough = middle
        else:
            short = middle
