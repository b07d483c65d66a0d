"""The contract of a board: files go there, a command runs there, results come back."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edgepipe.devices.inventory import Device
from edgepipe.errors import DeviceUnreachable

ASK_SECONDS = 60.0
TAIL = 400
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What is to run on a board, in a folder of its own, with the board's Python."""

    script: str
    """One of `files`."""
    arguments: tuple[str, ...]
    files: Mapping[str, Path]
    """Name in the job's folder -> file here."""
    results: tuple[str, ...]
    """What to bring back, where it is there."""
    seconds: float
    secrets: Mapping[str, str]
    """Variables for its environment: never in an argument, a log or a report."""


@dataclass(frozen=True)
class Done:
    """How a job ended. A code below 0 is a signal's."""

    code: int
    said: str
    results: Mapping[str, Path]
    sent: int = 0
    """Bytes that went over; 0 where all was there already."""
    reconnects: int = 0


class Board(ABC):
    """A context: what it opened or made on the board is gone when it ends."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def ask(self, script: str, arguments: Sequence[str] = ()) -> str:
        """What a short Python script prints there."""

    @abstractmethod
    def run(self, job: Job, into: Path, on_line: Tell, tell: Tell) -> Done:
        """Send, run to its end, bring back. `on_line` gets what it prints, as it prints it."""

    @abstractmethod
    def clean(self) -> None:
        """Take away all that was ever put on the board."""

    @abstractmethod
    def stop(self) -> None:
        """End what runs there, as soon as may be; called from another thread."""

    def close(self) -> None:  # noqa: B027 - most boards hold nothing open
        """Let go of the connection."""

    def facts(self, script: str) -> dict[str, Any]:
        """What a script tells as JSON in its last line; a login may print before it."""
        said = self.ask(script)
        lines = [line for line in said.splitlines() if line.startswith("{")]
        try:
            found: dict[str, Any] = json.loads(lines[-1])
        except (IndexError, ValueError) as error:
            raise DeviceUnreachable(
                f"{self.device.name} answered nothing that is of use: {said[-TAIL:]!r}",
                hint=f"`edgepipe device doctor {self.device.name}` says more.",
            ) from error
        return found


def open_board(device: Device) -> Board:
    """The way to this kind of board."""
    if device.kind == "ssh":
        from edgepipe.devices.ssh import SshBoard

        return SshBoard(device)
    if device.kind == "adb":
        from edgepipe.devices.adb import AdbBoard

        return AdbBoard(device)
    from edgepipe.devices.local import LocalBoard

    return LocalBoard(device)
