"""The ends of an artifact under the names and layouts of the model that it is said to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgepipe.artifact import Port, Signature
from edgepipe.errors import InputError
from edgepipe.inputs import shape_words

MOVES: dict[int, tuple[tuple[int, ...], ...]] = {
    3: ((1, 2, 0), (2, 0, 1)),
    4: ((0, 2, 3, 1), (0, 3, 1, 2)),
}
"""Layouts that converters move to: `file = transpose(given, move)`."""


def matched(artifact: Signature, model: Signature, names: tuple[str, str]) -> Signature:
    """By name, else by a shape that only one has, else in order. `names` are of both files."""
    return Signature(
        _matched("input", artifact.inputs, model.inputs, names),
        _matched("output", artifact.outputs, model.outputs, names),
    )


def _matched(
    kind: str, ports: Sequence[Port], ends: Sequence[Port], names: tuple[str, str]
) -> tuple[Port, ...]:
    if len(ports) != len(ends):
        raise _foreign(
            f"it has {len(ports)} {kind}s ({_listed(ports)}), {names[1]} has {len(ends)}"
            f" ({_listed(ends)})",
            names,
        )
    known = {port.name: port for port in ports}
    left = [port for port in ports if port.name not in {end.name for end in ends}]
    found = []
    for end in ends:
        port = known.get(end.name)
        if port is None:
            fitting = [one for one in left if _move(one, end) is not None]
            port = fitting[0] if len(fitting) == 1 else left[0]
            left.remove(port)
        move = _move(port, end)
        if move is None:
            raise _foreign(
                f"its {kind} {port.name!r} is {shape_words(port.given_shape())}, and"
                f" {end.name!r} of {names[1]} is {shape_words(end.given_shape())}",
                names,
            )
        found.append(
            replace(
                port,
                name=end.name,
                tensor=port.tensor or port.name,
                permutation=move or port.permutation,
                high=end.high if port.high is None else port.high,
            )
        )
    return tuple(found)


def _move(port: Port, end: Port) -> tuple[int, ...] | None:
    """What makes the shapes one: () is nothing; None where nothing does."""
    wanted = end.given_shape()
    if wanted is None or port.shape is None or _same(port.given_shape(), wanted):
        return ()
    if port.permutation is not None:
        return None
    for move in MOVES.get(len(wanted), ()):
        if len(port.shape) == len(wanted) and _same(
            port.shape, tuple(wanted[axis] for axis in move)
        ):
            return move
    return None


def _same(one: tuple[int | None, ...] | None, other: tuple[int | None, ...] | None) -> bool:
    """Open dimensions take any size; a scalar is as good as a vector of one."""
    if one is None or other is None:
        return True
    if len(one) != len(other):
        return all(size == 1 for size in (*one, *other))
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def _foreign(why: str, names: tuple[str, str]) -> InputError:
    return InputError(
        f"{names[0]} is not made of {names[1]}: {why}",
        hint="name the float model that it was made of with --against.",
    )


def _listed(ports: Sequence[Port]) -> str:
    return ", ".join(f"{port.name} {shape_words(port.given_shape())}" for port in ports) or "none"
