"""Outputs of many samples in one file: stacked by name, or one by one where shapes differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe import tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

    Rows = NDArray[np.float64] | list[NDArray[np.float64]]


def write(path: Path, samples: Sequence[Tensors]) -> None:
    """One array a name; writing each sample's own took longer than running a small model."""
    if not samples or not _alike(samples):
        tensors.write(path, samples)
        return
    names = list(samples[0])
    stacked = {f"t{place}": np.stack([one[name] for one in samples]) for place, name in
               enumerate(names)}  # fmt: skip
    with path.open("wb") as file:
        save: Any = np.savez  # its stub takes the names of its own flags for arrays
        save(file, names=np.array(json.dumps(names)), **stacked)


def read(path: Path) -> Iterator[Tensors]:
    with np.load(path, allow_pickle=False) as file:
        if "names" in file:
            names: list[str] = json.loads(str(file["names"]))
            columns = [file[f"t{place}"] for place in range(len(names))]
            for row in zip(*columns, strict=True):
                yield dict(zip(names, row, strict=True))
            return
    yield from tensors.read(path)


def _alike(samples: Sequence[Tensors]) -> bool:
    first = [(name, array.shape, array.dtype) for name, array in samples[0].items()]
    return all(
        [(name, array.shape, array.dtype) for name, array in one.items()] == first
        for one in samples
    )


def write_rows(path: Path, rows: dict[str, list[NDArray[np.float64]]]) -> None:
    """Rows of evidence by name; where their lengths differ, each length is kept beside them."""
    arrays: dict[str, Any] = {}
    for place, found in enumerate(rows.values()):
        arrays[f"r{place}"] = np.concatenate(found) if found else np.zeros(0)
        arrays[f"n{place}"] = np.array([len(row) for row in found], np.int64)
    with path.open("wb") as file:
        save: Any = np.savez
        save(file, names=np.array(json.dumps(list(rows))), **arrays)


def read_rows(path: Path) -> dict[str, Rows]:
    """One array a name where all rows are of one length, as most metrics make them."""
    with np.load(path, allow_pickle=False) as file:
        names: list[str] = json.loads(str(file["names"]))
        found: dict[str, Rows] = {}
        for place, name in enumerate(names):
            values, lengths = file[f"r{place}"], file[f"n{place}"]
            if len(lengths) and (lengths == lengths[0]).all():
                found[name] = values.reshape(len(lengths), -1)
            else:
                found[name] = np.split(values, np.cumsum(lengths)[:-1]) if len(lengths) else []
    return found


def joined(pieces: Sequence[Rows]) -> Rows:
    """Of several files: one array, or a list where the lengths differ."""
    whole = [piece for piece in pieces if not isinstance(piece, list)]
    if len(whole) == len(pieces) and len({piece.shape[1] for piece in whole}) == 1:
        return np.concatenate(whole)
    return [row for piece in pieces for row in piece]
