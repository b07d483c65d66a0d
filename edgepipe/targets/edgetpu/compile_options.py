"""The settings of `edgetpu_compiler`, typed, and the arguments that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from edgepipe.errors import OptionError
from edgepipe.stage import Options, option

DEFAULT_TIMEOUT = 180
"""The compiler's own, in seconds."""
SLACK_SECONDS = 60.0
"""For starting, reading and writing; the compiler's timer counts only compiling."""
MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class CompileOptions(Options):
    """`compiler` says where it is, and is no part of what decides the result."""

    never_from_files: ClassVar[tuple[str, ...]] = ("compiler",)

    compiler: str = option("", "Path of edgetpu_compiler, docker:IMAGE or ssh://user@host[:port].")
    multiple_subgraphs: bool = option(False, "-a: map what comes behind an unmapped op, too.")
    search_delegate: bool = option(False, "-d: where it fails, try again with ever fewer ops.")
    delegate_search_step: int | None = option(None, "Ops fewer at each try of search_delegate.")
    min_runtime_version: int | None = option(None, "-m: oldest runtime to compile for.")
    intermediate_tensors: tuple[str, ...] = option((), "-i: tensors to stop at, by name.")
    num_segments: int = option(1, "-n: cut the model into so many, for a pipeline of devices.")
    timeout_sec: int = option(DEFAULT_TIMEOUT, "The compiler's own time limit, in seconds.")
    allow_float: bool = option(False, "Compile although some operators compute in float.")

    def key(self) -> dict[str, Any]:
        return {name: value for name, value in super().key().items() if name != "compiler"}

    def check(self) -> None:
        """Refuse what the compiler would misread or silently pass over."""
        for name, least in (
            ("delegate_search_step", 1), ("min_runtime_version", 1),
            ("num_segments", 1), ("timeout_sec", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} takes a number from {least} on, received {value}")
        if self.delegate_search_step is not None and not self.search_delegate:
            raise OptionError(
                "delegate_search_step belongs to search_delegate",
                hint="say --search-delegate as well.",
            )
        for name in self.intermediate_tensors:
            if not name or "," in name:
                raise OptionError(
                    f"-i takes names of tensors without commas, received {name!r}",
                    hint="the compiler separates them by commas.",
                )

    def arguments(self) -> list[str]:
        """What was asked for and no more: old compilers don't know the newer flags."""
        found = ["-s"]
        found += ["-a"] if self.multiple_subgraphs else []
        if self.search_delegate:
            found.append("-d")
            if self.delegate_search_step is not None:
                found += ["--delegate_search_step", str(self.delegate_search_step)]
        if self.min_runtime_version is not None:
            found += ["-m", str(self.min_runtime_version)]
        if self.intermediate_tensors:
            found += ["-i", ",".join(self.intermediate_tensors)]
        if self.num_segments > 1:
            found += ["-n", str(self.num_segments)]
        if self.timeout_sec != DEFAULT_TIMEOUT:
            found += ["--timeout_sec", str(self.timeout_sec)]
        return found

    def patience(self, ops: Sequence[int]) -> float:
        """Seconds after which the compiler hangs: its own limit, for each of its attempts.

        `ops` has the number of operators of each model, which bounds the tries of -d.
        """
        step = self.delegate_search_step or 1
        tries = max([count // step + 1 for count in ops], default=1) if self.search_delegate else 1
        runs = min(tries, MOST_ATTEMPTS) * self.num_segments * max(len(ops), 1)
        return self.timeout_sec * runs + SLACK_SECONDS
