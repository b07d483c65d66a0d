"""What is true of the samples beside their labels: numbers, masks or boxes, written down once.

`--truth` names a column or array of the data itself, a .npy, .npz or .csv file, a folder of masks,
annotations in COCO's JSON, or `module:function`. All become one flat file that workers map into
memory, so that masks of a large data set are never held at once.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.data.kind import names_function
from edgepipe.errors import SamplesError, TrustRequired

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.request import Request

HEADER = "truth.json"
BODY = "truth.bin"


@dataclass(frozen=True)
class TruthSource:
    """Where the truth lies. Plain data: it goes to workers."""

    where: str
    trust: bool = False
    python_path: tuple[str, ...] = ()

    @staticmethod
    def of(text: str, request: Request) -> TruthSource | None:
        if not text:
            return None
        path = Path(text).expanduser()
        if path.exists():
            return TruthSource(str(path.absolute()))
        if names_function(text) and not request.trust:
            raise TrustRequired(
                f"{text} is code, and knowing what is true would run it",
                hint="if you trust it, add --trust.",
            )
        return TruthSource(text, request.trust, tuple(map(str, request.python_path)))

    @property
    def is_function(self) -> bool:
        return names_function(self.where) and not Path(self.where).exists()

    @property
    def annotations(self) -> str:
        """The file in COCO's JSON, if it is one."""
        return self.where if self.where.lower().endswith(".json") else ""

    @property
    def toolchain(self) -> str:
        """Where it must be read: masks need Pillow, and the user's code a worker."""
        return "edge" if self.is_function or Path(self.where).is_dir() else ""

    def to_json(self) -> dict[str, Any]:
        return {
            "where": self.where,
            "trust": self.trust,
            "python_path": list(self.python_path),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> TruthSource:
        return TruthSource(**{**data, "python_path": tuple(data["python_path"])})


def write(folder: Path, truths: Iterator[NDArray[Any]]) -> dict[str, Any]:
    """All of them, in the order of the data set; what they are, and a digest of them."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    shapes: list[list[int]] = []
    dtypes: set[str] = set()
    hasher = hashlib.sha256()
    with (folder / BODY).open("wb") as file:
        for truth in truths:
            array = np.ascontiguousarray(truth)
            if array.dtype.kind not in "iubf":
                raise SamplesError(f"a truth is of type {array.dtype}, expected numbers")
            dtypes.add(array.dtype.str)
            shapes.append(list(truth.shape))
            content = array.tobytes()
            hasher.update(content)
            file.write(content)
    if len(dtypes) != 1:
        raise SamplesError(
            f"the truth is of several types: {', '.join(sorted(dtypes))}" if dtypes
            else "there is no truth",
            hint="give every sample's as numbers of one type.",
        )  # fmt: skip
    header: dict[str, Any] = {"dtype": dtypes.pop(), "shapes": shapes}
    hasher.update(json.dumps(header).encode())
    (folder / HEADER).write_text(json.dumps(header))
    kinds = sorted(_kinds(np.dtype(header["dtype"]), shapes))
    return {"folder": str(folder), "digest": hasher.hexdigest(), "kinds": kinds}


def _kinds(dtype: Any, shapes: list[list[int]]) -> set[str]:
    """What metrics may take it for: `Metric.truth`."""
    whole = dtype.kind in "iub"
    found = {"numbers"}
    if whole and all(not shape or shape == [1] for shape in shapes):
        found.add("label")
    if whole and all(len(shape) >= 2 for shape in shapes):
        found.add("mask")
    return found


class Truths:
    """What was written, mapped into memory."""

    def __init__(self, folder: str) -> None:
        header = json.loads((Path(folder) / HEADER).read_text())
        self.dtype: str = header["dtype"]
        self.shapes: list[list[int]] = header["shapes"]
        self._file = Path(folder) / BODY

    @functools.cached_property
    def _starts(self) -> Any:
        import numpy as np

        sizes = [int(np.prod(shape)) for shape in self.shapes]
        return np.concatenate([[0], np.cumsum(sizes)])

    @functools.cached_property
    def _flat(self) -> Any:
        import numpy as np

        if not self._starts[-1]:
            return np.zeros(0, self.dtype)
        return np.memmap(self._file, self.dtype, "r")

    def at(self, position: int) -> NDArray[Any]:
        start, stop = self._starts[position], self._starts[position + 1]
        found: NDArray[Any] = self._flat[start:stop].reshape(self.shapes[position])
        return found


@functools.lru_cache(4)
def opened(folder: str) -> Truths:
    return Truths(folder)
