"""`random`: seeded noise in the place of data; whoever uses it must mark it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Port
from edgepipe.data import fitting
from edgepipe.data.reader import Reader, Sample, Unreadable
from edgepipe.errors import SamplesError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLES = 16
OF_INDICES = 64
"""A few samples see a part of a table's rows only: a small transformer calibrated on 13 lost 15 dB
on the rows that it had not met."""


class NoiseReader(Reader):
    """Normal noise of 1; pixels where the preprocessing says what becomes of pixels."""

    def count(self) -> int:
        indices = any(port.high is not None for port in self.signature.inputs)
        return self.source.limit or (OF_INDICES if indices else SAMPLES)

    def read(self, indices: Sequence[int]) -> Iterator[Sample | Unreadable]:
        import numpy as np

        for index in indices:
            random = np.random.default_rng([self.source.seed, index])
            feeds = {port.name: self._feed(random, port) for port in self.signature.inputs}
            yield Sample(feeds, None, f"random {index}")

    def _feed(self, random: np.random.Generator, port: Port) -> NDArray[Any]:
        shape = fitting.shape_of(port)
        steps = self.source.preprocessing.of(port.name)
        if port.dtype == "bool":
            return random.random(shape) < 0.5
        if port.high is not None:
            return random.integers(0, port.high, shape).astype(port.dtype)
        if port.dtype.startswith("float"):
            if steps.changes_values:
                pixels = random.integers(0, 256, shape).astype("float32")
                return fitting.fit(pixels, port, steps, "random noise")
            return random.standard_normal(shape).astype(port.dtype)
        if not port.dtype.startswith(("int", "uint")):
            raise SamplesError(
                f"input {port.name!r} is of type {port.dtype}: no random samples can be made of it",
                hint="give real ones.",
            )
        low, high = {"uint8": (0, 256), "int8": (-128, 128)}.get(port.dtype, (0, 2))
        return random.integers(low, high, shape).astype(port.dtype)

    def digest(self, chosen: Callable[[], Sequence[int]]) -> str:
        return f"random, {self.count()}"
