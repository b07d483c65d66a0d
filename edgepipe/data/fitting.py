"""One array as one input takes it: values, layout, shape and type, or an error that says how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Port
from edgepipe.data.preprocessing import Steps
from edgepipe.errors import SamplesError
from edgepipe.inputs import shape_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOVES: dict[int, dict[str, tuple[int, ...]]] = {
    3: {"NHWC": (1, 2, 0), "NCHW": (2, 0, 1)},
    4: {"NHWC": (0, 2, 3, 1), "NCHW": (0, 3, 1, 2)},
}
"""What brings an array to a layout from the other one."""


def shape_of(port: Port) -> tuple[int, ...]:
    return tuple(size or 1 for size in port.given_shape() or ())


def channels_first(port: Port, steps: Steps) -> bool:
    """Whether an input takes its channels before height and width, by its shape if not said."""
    if steps.layout:
        return steps.layout == "NCHW"
    shape = shape_of(port)
    colors = (1, 3, 4)
    return len(shape) >= 3 and shape[-3] in colors and shape[-1] not in colors


def fit(array: NDArray[Any], port: Port, steps: Steps, where: str) -> NDArray[Any]:
    """One sample in the shape and type of the input, its values as the steps say."""
    import numpy as np

    check_kind(array.dtype, port, where, steps)
    moved = move(array, port, steps)
    shape = shape_of(port)
    if moved.shape != shape and (1, *moved.shape) != shape:
        raise wrong_shape(where, port, array.shape)
    values = change(moved.reshape(shape), port, steps, where)
    check_values(values, port, where)
    return np.asarray(values).astype(port.dtype)


def axes(shape: tuple[int, ...], port: Port, steps: Steps) -> tuple[int, ...] | None:
    """What brings an array of this shape to the layout that the steps name; None if it lies so."""
    wanted = shape_of(port)
    if not steps.layout or shape in (wanted, wanted[1:]) or len(shape) not in MOVES:
        return None
    order = MOVES[len(shape)][steps.layout]
    return order if tuple(shape[axis] for axis in order) in (wanted, wanted[1:]) else None


def moved_shape(shape: tuple[int, ...], port: Port, steps: Steps) -> tuple[int, ...]:
    order = axes(shape, port, steps)
    return shape if order is None else tuple(shape[axis] for axis in order)


def move(array: NDArray[Any], port: Port, steps: Steps) -> NDArray[Any]:
    order = axes(array.shape, port, steps)
    return array if order is None else array.transpose(order)


def change(array: NDArray[Any], port: Port, steps: Steps, where: str) -> NDArray[Any]:
    """(x · scale - mean) / std, channel by channel."""
    import numpy as np

    if not steps.changes_values:
        return array
    values = array.astype(np.float64 if array.dtype == np.float64 else np.float32)
    values = values * np.asarray(steps.scale, values.dtype)
    first = channels_first(port, steps)
    if steps.mean:
        values = values - _by_channel(steps.mean, values, first, "mean", where)
    if steps.std:
        values = values / _by_channel(steps.std, values, first, "std", where)
    return values


def _by_channel(
    numbers: tuple[float, ...], array: NDArray[Any], first: bool, name: str, where: str
) -> NDArray[Any]:
    import numpy as np

    made = np.asarray(numbers, array.dtype)
    if len(numbers) == 1:
        return made
    axis = -3 if first and array.ndim >= 3 else -1
    channels = array.shape[axis] if array.ndim else 1
    if len(numbers) != channels:
        raise SamplesError(
            f"{where}: {name} has {len(numbers)} numbers, the input {channels} channels",
            hint="give one number, or one for each channel.",
        )
    return made.reshape(-1, 1, 1) if axis == -3 else made


def check_kind(dtype: Any, port: Port, where: str, steps: Steps) -> None:
    import numpy as np

    wanted = np.dtype(port.dtype)
    lost = dtype.kind == "f" and wanted.kind in "iub" and not steps.changes_values
    small = lost and wanted.itemsize <= 2  # A quantized input more likely than an index.
    if dtype.kind not in "biuf" or lost:
        raise SamplesError(
            f"{where}: {port.name!r} is {dtype}, the model takes {port.dtype}",
            hint=f"save it as numpy.{wanted.name}: array.astype({wanted.name!r})"
            + ("; of real values, round(x / scale + zero point)." if small else "."),
        )
    if steps.dtype and np.dtype(steps.dtype) != wanted:
        raise SamplesError(
            f"preprocessing says {port.name!r} is {steps.dtype}, the model takes {port.dtype}"
        )


def check_values(array: NDArray[Any], port: Port, where: str) -> None:
    """No NaN, no number that the type can't hold, no index beyond its table."""
    import numpy as np

    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(array.size - np.isfinite(array).sum())
        raise SamplesError(
            f"{where}: {port.name!r} holds NaN or infinite values ({count} of {array.size})",
            hint="leave those samples out, or mend what made them.",
        )
    wanted = np.dtype(port.dtype)
    if wanted.kind not in "iu" or not array.size:
        return
    limits = np.iinfo(wanted)
    low, high = (limits.min, limits.max) if port.high is None else (0, port.high - 1)
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise SamplesError(
            f"{where}: {port.name!r} is not whole after preprocessing,"
            f" the model takes {port.dtype}",
            hint="an integer input takes no scale or std; mean may be a whole number.",
        )
    if int(array.min()) < low or int(array.max()) > high:
        raise SamplesError(
            f"{where}: {port.name!r} holds {array.min()} to {array.max()},"
            f" the model takes {low} to {high}"
        )


def wrong_shape(where: str, port: Port, received: tuple[int, ...]) -> SamplesError:
    """The error, with the fix where only the layout is the other one."""
    shape = shape_of(port)
    hint = f"one sample is {shape_words(shape)}; many are stacked along the first axis."
    layout = "NCHW" if channels_first(port, Steps()) else "NHWC"
    other = "NHWC" if layout == "NCHW" else "NCHW"
    single = received[-len(shape) :] if len(received) > len(shape) else received
    order = MOVES.get(len(single), {}).get(layout, ())
    moved = tuple(single[axis] for axis in order)
    if moved and moved[-3:] == shape[-3:]:
        move = "-1, -3" if layout == "NCHW" else "-3, -1"
        hint = (
            f"it lies as {other}, the model takes {layout}: save numpy.moveaxis(array, {move}),"
            f" or let edgepipe move it with --layout {layout}."
        )
    return SamplesError(
        f"{where}: {port.name!r} is {shape_words(received)}, the model takes {shape_words(shape)}",
        hint=hint,
    )
