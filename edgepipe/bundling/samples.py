"""The samples of a bundle: as the model sees them, or as bytes with what is done to them as data.

Bytes are a quarter of floats. They are taken only where replaying the preprocessing with the
runner's own function gives the very same numbers, bit by bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe import catalog
from edgepipe.artifact import Port, Signature
from edgepipe.data.preprocessing import Preprocessing, Steps
from edgepipe.dataset import DataSource
from edgepipe.errors import EdgepipeError
from edgepipe.runner import to_file_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

LARGEST = 512 << 20
"""Bytes of samples as floats that a bundle takes; of more, the first ones."""
PREPARED = "edgepipe.device_tests.run_on_device:prepared"

Row = Callable[["NDArray[Any]", "dict[str, Any] | None"], "NDArray[Any]"]


def write(
    source: dict[str, Any], signature: dict[str, Any], path: str, raw: bool
) -> dict[str, Any]:
    """A worker's job: the samples, the first one again at the end; and bytes where they will do.

    Beside `path` lies `path`.raw with the bytes of those inputs that `raw` names in the answer.
    """
    from edgepipe import tensors

    data = DataSource.from_json(source)
    ends = Signature.from_json(signature)
    dataset = data.open(ends)
    chosen: list[Tensors] = []
    labels: list[int] = []
    names: list[str] = []
    size = left_out = 0
    for sample in dataset:
        size += sum(array.nbytes for array in sample.feeds.values())
        if chosen and size > LARGEST:
            left_out += 1
            continue
        chosen.append(sample.feeds)
        labels.append(-1 if sample.label is None else sample.label)
        names.append(str(sample.name))
    tensors.write(Path(path), [*chosen, chosen[0]])
    found = _bytes_of(data, ends, chosen) if raw else {}
    rows = [{name: found[name][1][number] for name in found} for number in range(len(chosen))]
    tensors.write(Path(f"{path}.raw"), rows)
    return {
        "labels": labels,
        "label_names": list(dataset.label_names),
        "raw": {name: steps for name, (steps, _) in found.items()},
        "left_out": left_out,
        "problems": list(dataset.problems),
    }


def _bytes_of(
    data: DataSource, ends: Signature, chosen: list[Tensors]
) -> dict[str, tuple[dict[str, Any], list[NDArray[Any]]]]:
    """The inputs that bytes stand for exactly, with the steps that lead from them."""
    replay: Row = catalog.load(PREPARED)
    wanted = [port for port in ends.inputs if np.dtype(port.dtype).kind == "f"]
    if not wanted:
        return {}
    plain = _without_values(data, ends)
    ports = tuple(
        replace(port, dtype="uint8", high=None) if port in wanted else port for port in ends.inputs
    )
    try:
        samples = [
            sample.feeds
            for sample, _ in zip(plain.open(Signature(ports, ends.outputs)), chosen, strict=False)
        ]
    except EdgepipeError:
        return {}  # They are no bytes before the preprocessing either.
    found = {}
    for port in wanted:
        steps = steps_of(data.preprocessing.of(port.name), port)
        rows = [sample[port.name] for sample in samples]
        if len(rows) == len(chosen) and all(
            _same(replay(row, steps), sample[port.name])
            for row, sample in zip(rows, chosen, strict=True)
        ):
            found[port.name] = (steps, rows)
    return found


def _without_values(data: DataSource, ends: Signature) -> DataSource:
    def plain(steps: Steps) -> Steps:
        return replace(steps, scale=1.0, mean=(), std=(), dtype="")

    given = data.preprocessing
    by_input = tuple((name, plain(steps)) for name, steps in given.by_input)
    return replace(data, preprocessing=Preprocessing(plain(given.steps), by_input))


def steps_of(steps: Steps, port: Port) -> dict[str, Any]:
    """What the runner does to bytes of an input, in the layout of the given model."""
    from edgepipe.data import fitting

    first = fitting.channels_first(port, steps) and len(fitting.shape_of(port)) >= 3

    def constant(numbers: tuple[float, ...]) -> dict[str, Any] | None:
        if not numbers:
            return None
        shape = [1] * len(fitting.shape_of(port))
        if len(numbers) > 1:
            shape[-3 if first else -1] = len(numbers)
        return {"values": list(numbers), "shape": shape}

    return {
        "scale": steps.scale,
        "mean": constant(steps.mean),
        "std": constant(steps.std),
        "dtype": port.dtype,
    }


def in_file_layout(steps: dict[str, Any], port: Port) -> dict[str, Any]:
    """The same steps for bytes that lie as the model's file has them."""
    if port.permutation is None:
        return steps
    moved = dict(steps)
    for name in ("mean", "std"):
        if steps[name]:
            shape = steps[name]["shape"]
            moved[name] = {**steps[name], "shape": [shape[axis] for axis in port.permutation]}
    return moved


def write_rows(path: Path, rows: Iterable[NDArray[Any]], count: int) -> None:
    """One array of all rows as .npy, written row by row."""
    waiting: Iterator[NDArray[Any]] = iter(rows)
    first = np.ascontiguousarray(next(waiting))
    header = {
        "descr": np.lib.format.dtype_to_descr(first.dtype),
        "fortran_order": False,
        "shape": (count, *first.shape),
    }
    written = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for row in itertools.chain([first], waiting):
            if row.shape != first.shape or row.dtype != first.dtype:
                raise ValueError(f"a row of {row.shape} {row.dtype} after {first.shape}")
            file.write(np.ascontiguousarray(row).tobytes())
            written += 1
    if written != count:
        raise ValueError(f"{written} rows, {count} expected")


def laid_out(array: NDArray[Any], port: Port) -> NDArray[Any]:
    """A tensor of the given model as the file has it, in the file's own shape."""
    moved = to_file_layout(array, port)
    if moved.shape == () and port.shape == (1,):
        return moved.reshape(1)
    return moved


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return (
        one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    )
