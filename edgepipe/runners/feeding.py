"""What every runner asks of its feeds: the names are there, and numbers of the right kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Port
from edgepipe.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pick(feeds: Mapping[str, NDArray[Any]], port: Port, ports: Iterable[Port]) -> NDArray[Any]:
    """The feed of one input; an error names what was given and what is wanted."""
    import numpy as np

    if port.name in feeds:
        return np.asarray(feeds[port.name])
    wanted = ", ".join(one.name for one in ports)
    raise InputError(
        f"no data for the input {port.name!r}, received {sorted(feeds)!r}",
        hint=f"feed all of: {wanted}.",
    )


def cast(array: NDArray[Any], dtype: str, name: str) -> NDArray[Any]:
    """A feed in the type that the file takes; no float as an integer, no value changed."""
    import numpy as np

    wanted = np.dtype(dtype)
    if array.dtype == wanted:
        return array
    same = array.dtype.kind == wanted.kind or {array.dtype.kind, wanted.kind} <= {"i", "u"}
    if not same:
        raise InputError(
            f"input {name!r} takes {wanted.name}, received {array.dtype.name}",
            hint=f"feed it as numpy.{wanted.name}.",
        )
    converted = array.astype(wanted)
    if wanted.kind != "f" and not np.array_equal(converted, array):
        raise InputError(
            f"input {name!r} takes {wanted.name}, received {array.dtype.name} values up to "
            f"{array.max()!r} that don't fit"
        )
    return converted
