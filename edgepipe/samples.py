"""The samples on which both sides of an arrow are run: seeded noise, or some of the user's own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Port, Signature
from edgepipe.errors import SamplesError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgepipe.dataset import DataSource
    from edgepipe.runner import Tensors

SEEDED = 5
FAR = range(3, 5)
"""Which of the seeded ones go beyond what most models are made for."""
MOST = 16
"""Samples of the user's data that a proof takes."""


@dataclass(frozen=True)
class SampleSource:
    """Where samples come from: the user's data, or a seed where `data` is None."""

    data: DataSource | None = None
    seed: int = 0

    @staticmethod
    def of(data: DataSource, most: int = MOST) -> SampleSource:
        """At most so many of a data set: a proof needs few, and runs both sides on each."""
        return SampleSource(replace(data, limit=min(data.limit or most, most)), data.seed)

    def key(self, signature: Signature) -> str:
        """A digest of the samples that this makes for a model, without making them."""
        if self.data is not None:
            return self.data.key(signature)
        ends = [(port.name, port.given_shape(), port.dtype, port.high) for port in signature.inputs]
        source = f"seed {self.seed} revision 5"
        return hashlib.sha256(json.dumps([ends, source, MOST]).encode()).hexdigest()

    def make(self, signature: Signature) -> list[Tensors]:
        """Only where the data needs no toolchain; `given_data.samples` asks a worker for others."""
        if self.data is not None:
            return [sample.feeds for sample in self.data.open(signature)]
        return _seeded(signature, self.seed)

    def far(self) -> range:
        """The samples on which a result may overflow where the model doesn't."""
        return range(0) if self.data is not None else FAR

    def words(self) -> str:
        if self.data is not None:
            return self.data.words()
        return f"{SEEDED} seeded random samples (seed {self.seed})"


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
ASKED = 1_000_000
"""The largest number that a model is asked whether it takes it."""


def bounds(port: Port, number: int) -> tuple[int, int]:
    """Where no table bounds them, bytes are pixels, and wider integers of several ranges."""
    import numpy as np

    if port.high is not None and port.high != ASKED + 1:
        return 0, port.high
    if port.dtype in ("uint8", "int8") or port.dtype.startswith("float"):
        return {"uint8": (0, 256)}.get(port.dtype, (-128, 128))
    limits = np.iinfo(port.dtype)
    low, high = WIDENING[number]
    least = int(limits.min) if port.high is None else 0  # Bounded below only.
    return max(low, least), min(high, int(limits.max) + 1)
