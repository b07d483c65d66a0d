"""Lists of named tensors as one `.npz` file, read back one sample at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edgepipe.runner import Tensors


def write(path: Path, samples: Sequence[Tensors]) -> None:
    """Names go into an index, because a tensor's name may be no name for a zip member."""
    index = [list(sample) for sample in samples]
    arrays = {
        f"s{number}_t{place}": array
        for number, sample in enumerate(samples)
        for place, array in enumerate(sample.values())
    }
    with path.open("wb") as file:
        save: Any = np.savez  # its stub takes the names of its own flags for arrays
        save(file, index=np.array(json.dumps(index)), **arrays)


def read(path: Path) -> Iterator[Tensors]:
    """Samples in the order in which they were written."""
    with np.load(path, allow_pickle=False) as file:
        index: list[list[str]] = json.loads(str(file["index"]))
        for number, names in enumerate(index):
            yield {name: file[f"s{number}_t{place}"] for place, name in enumerate(names)}


def count(path: Path) -> int:
    """How many samples there are, without reading them."""
    with np.load(path, allow_pickle=False) as file:
        return len(json.loads(str(file["index"])))
