"""The samples on which both sides of an arrow are run: seeded noise, or the user's own arrays."""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Port, Signature, digest_file
from edgepipe.errors import SamplesError
from edgepipe.inputs import shape_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

SEEDED = 5
FAR = range(3, 5)
"""Which of the seeded ones go beyond what most models are made for."""
MOST = 16
UNREADABLE = (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What numpy raises on damaged files, some of which claim arrays larger than the machine."""


@dataclass(frozen=True)
class SampleSource:
    """Where samples come from: a file, or a seed where `file` is None."""

    file: Path | None = None
    seed: int = 0
    limit: int = MOST

    def key(self, signature: Signature) -> str:
        """A digest of the samples that this makes for a model, without making them."""
        ends = [(port.name, port.given_shape(), port.dtype, port.high) for port in signature.inputs]
        source = self._digest if self.file else f"seed {self.seed} revision 4"
        return hashlib.sha256(json.dumps([ends, source, self.limit]).encode()).hexdigest()

    @functools.cached_property
    def _digest(self) -> str:
        assert self.file is not None
        _check_file(self.file)
        return digest_file(self.file)

    def make(self, signature: Signature) -> list[Tensors]:
        if self.file is not None:
            return _from_file(self.file, signature, self.limit)
        return _seeded(signature, self.seed)

    def far(self) -> range:
        """The samples on which a result may overflow where the model doesn't."""
        return range(0) if self.file is not None else FAR

    def words(self) -> str:
        return str(self.file) if self.file else f"{SEEDED} seeded random samples (seed {self.seed})"


def _seeded(signature: Signature, seed: int) -> list[Tensors]:
    import numpy as np

    random = np.random.default_rng(seed)
    return [
        {port.name: _noise(random, port, number) for port in signature.inputs}
        for number in range(SEEDED)
    ]


def _noise(random: np.random.Generator, port: Port, number: int) -> NDArray[Any]:
    """Several scales, so that a clipped or missing activation shows.

    Pixels, and more than pixels: noise of 1 reaches none of the limits of a model that divides
    by 255. Of 320 dropped ReLU6 in small nets for four kinds of input, the first three samples
    and noise in [-1, 1] missed 105; these miss one (`test_defaults_catch_a_dropped_activation`).
    """
    shape = port.given_shape()
    assert shape is not None
    sizes = tuple(size or 1 for size in shape)
    if port.dtype == "bool":
        return random.random(sizes) < 0.5
    if port.high is not None or port.dtype.startswith(("int", "uint")):
        # Keras 2 feeds its Embedding with floats, so the type doesn't tell an index.
        return _integers(random, port, sizes, number).astype(port.dtype)
    if not port.dtype.startswith("float"):
        raise SamplesError(
            f"input {port.name!r} is of type {port.dtype}: no random samples can be made of it",
            hint="give real ones with --samples FILE.npz.",
        )
    noise = (
        random.standard_normal(sizes),
        random.random(sizes),
        4 * random.standard_normal(sizes),
        255 * random.random(sizes),
        2000 * random.standard_normal(sizes),
    )[number]
    return noise.astype(port.dtype)


def _integers(
    random: np.random.Generator, port: Port, sizes: tuple[int, ...], number: int
) -> NDArray[Any]:
    """The ends of the range are always among them: a table's last row is the one that is lost."""
    low, high = bounds(port, number)
    values = random.integers(low, high, sizes)
    flat = values.reshape(-1)
    ends = (low, high - 1) if number % 2 == 0 else (high - 1, low)
    if flat.size:
        flat[-1], flat[0] = ends[1], ends[0]
    return values


WIDENING = ((0, 2), (0, 11), (-100, 1001), (0, 32_768), (-1_000_000, 1_000_001))
"""What integers are fed that nothing bounds, by sample: flags first, then more and more, since a
product that a converter narrowed to 32 bits is wrong from some size on only."""


def bounds(port: Port, number: int) -> tuple[int, int]:
    """Where no table bounds them, bytes are pixels, and wider integers of several ranges."""
    import numpy as np

    if port.high is not None:
        return 0, port.high
    if port.dtype in ("uint8", "int8") or port.dtype.startswith("float"):
        return {"uint8": (0, 256)}.get(port.dtype, (-128, 128))
    limits = np.iinfo(port.dtype)
    low, high = WIDENING[number]
    return max(low, int(limits.min)), min(high, int(limits.max) + 1)


def _from_file(path: Path, signature: Signature, limit: int) -> list[Tensors]:
    arrays = _load(path, signature)
    expected = [port.name for port in signature.inputs]
    if set(arrays) != set(expected):
        raise SamplesError(
            f"{path} holds arrays named {_listed(arrays)},"
            f" the model's inputs are {_listed(expected)}",
            hint="save them by name: numpy.savez(FILE, "
            + ", ".join(f"{name}=…" for name in expected)
            + ").",
        )
    split = {port.name: _split(path, arrays[port.name], port) for port in signature.inputs}
    counts = {name: len(samples) for name, samples in split.items()}
    if len(set(counts.values())) != 1:
        raise SamplesError(f"{path} holds unlike numbers of samples: {counts}")
    number = min(limit, *counts.values()) if counts else 0
    if not number:
        raise SamplesError(f"{path} holds no sample")
    return [{name: split[name][index] for name in expected} for index in range(number)]


def _load(path: Path, signature: Signature) -> dict[str, NDArray[Any]]:
    import numpy as np

    _check_file(path)
    try:
        with path.open("rb") as file:  # numpy leaves open what it can't read.
            loaded = np.load(file, allow_pickle=False)
            arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("it is a zip file of something else")
    except UNREADABLE as error:
        raise SamplesError(
            f"{path} can't be read as samples: {error}",
            hint="--samples takes a .npz or .npy file of plain arrays (no pickled objects).",
        ) from error
    if len(arrays) == 1 and len(signature.inputs) == 1 and set(arrays) <= {"", "arr_0", "x"}:
        return {signature.inputs[0].name: next(iter(arrays.values()))}
    return arrays


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise SamplesError(f"no samples at {path}", hint="--samples takes a .npz or .npy file.")


def _split(path: Path, array: NDArray[Any], port: Port) -> list[NDArray[Any]]:
    """One array into samples: it is either one sample or many along its first axis."""
    import numpy as np

    shape = tuple(size or 1 for size in port.given_shape() or ())
    if array.shape == shape:
        parts = [array]
    elif array.ndim == len(shape) + 1 and array.shape[1:] == shape:
        parts = list(array)
    elif shape and shape[0] == 1 and array.shape[1:] == shape[1:]:
        parts = [array[index : index + 1] for index in range(array.shape[0])]
    else:
        raise SamplesError(
            f"{path}: {port.name!r} is {shape_words(array.shape)},"
            f" the model takes {shape_words(shape)}",
            hint=f"one sample is {shape_words(shape)}; many are stacked along the first axis.",
        )
    _check_values(path, array, port)
    return [np.asarray(part).astype(port.dtype) for part in parts]


def _check_values(path: Path, array: NDArray[Any], port: Port) -> None:
    import numpy as np

    wanted = np.dtype(port.dtype)
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and wanted.kind in "iub"):
        raise SamplesError(f"{path}: {port.name!r} is {array.dtype}, the model takes {port.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise SamplesError(f"{path}: {port.name!r} holds NaN or infinite values")
    if wanted.kind not in "iu" or not array.size:
        return
    limits = np.iinfo(wanted)
    low, high = (limits.min, limits.max) if port.high is None else (0, port.high - 1)
    if int(array.min()) < low or int(array.max()) > high:
        raise SamplesError(
            f"{path}: {port.name!r} holds {array.min()} to {array.max()},"
            f" the model takes {low} to {high}"
        )


def _listed(names: Any) -> str:
    return ", ".join(repr(str(name)) for name in names) or "nothing"
