"""The contract of a runner: load an artifact in its own runtime, then infer and time it.

A runner lives in `edgepipe/runners/`, one file a runtime, and runs in a worker. It knows
nothing of stages or comparison. Names and layouts at its edges are those of the model that
the user gave: it feeds `Port.tensor`, applies `Port.permutation` to what goes in and undoes
it on what comes out.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.stage import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Description:
    """What can be said of an artifact without running it on data.

    `ops` counts operators (layers, for Keras) by type. `parameters` counts weights, None where
    that can't be known. The signature is as the file says it: unknown dimensions stay None.
    """

    signature: Signature
    ops: dict[str, int] = field(default_factory=dict)
    parameters: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "signature": self.signature.to_json(),
            "ops": self.ops,
            "parameters": self.parameters,
            "facts": self.facts,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Description:
        return Description(
            signature=Signature.from_json(data["signature"]),
            ops=data["ops"],
            parameters=data["parameters"],
            facts=data["facts"],
        )


class Runner(ABC):
    """One loaded artifact. A context manager: what it holds is let go at the end of the block."""

    formats: ClassVar[tuple[Format, ...]]
    toolchain: ClassVar[str]
    describes_in_core: ClassVar[bool] = False
    """Whether `describe` gets by with the core alone, so that no worker is needed for it."""
    preload: ClassVar[tuple[str, ...]] = ()
    """Modules worth importing while an earlier step is still running."""
    options: ClassVar[type[Options]] = Options
    """Its settings, with their types; most have none."""

    def __init__(
        self,
        artifact: Artifact,
        threads: int = 0,
        device: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """`threads` of 0 leaves the number to the runtime; `device` is for those that have some."""
        self.artifact = artifact
        self.threads = threads
        self.device = device
        self.settings: Any = self.options.from_settings(dict(settings or {}), type(self).__name__)

    def __enter__(self) -> Runner:
        self.load()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @classmethod
    @abstractmethod
    def describe(cls, artifact: Artifact) -> Description:
        """Names, shapes, ops and parameters; loads the model but does not run it."""

    @abstractmethod
    def load(self) -> None:
        """Load the model, ready to run."""

    @abstractmethod
    def infer(self, feeds: Tensors) -> Tensors:
        """Outputs by name, in the order of the signature, in the given model's layout."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what `load` took."""

    def placement(self, feeds: Tensors) -> list[dict[str, Any]]:
        """Each operator as {"op", "name", "device", "seconds"?}; [] where the runtime won't say."""
        del feeds
        return []

    def arena_bytes(self) -> int | None:
        """Bytes that the runtime lays out for tensors, where it plans them at once."""
        return None

    def latency(self, feeds: Tensors, repeats: int = 10, warmup: int = 2) -> list[float]:
        """Seconds of each of `repeats` runs on the same feeds."""
        return timed(lambda: self.infer(feeds), repeats, warmup)


def timed(run: Callable[[], Any], repeats: int, warmup: int) -> list[float]:
    """Seconds of each of `repeats` runs, after some that don't count."""
    for _ in range(warmup):
        run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def to_file_layout(array: NDArray[Any], port: Port) -> NDArray[Any]:
    """A feed in the given model's layout, as the file wants it."""
    if port.permutation is None:
        return array
    moved: NDArray[Any] = array.transpose(port.permutation)
    return moved


def to_given_layout(array: NDArray[Any], port: Port) -> NDArray[Any]:
    """An output of the file, in the given model's layout."""
    if port.permutation is None:
        return array
    inverse = [0] * len(port.permutation)
    for position, axis in enumerate(port.permutation):
        inverse[axis] = position
    moved: NDArray[Any] = array.transpose(inverse)
    return moved
