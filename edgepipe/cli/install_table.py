"""The live table of `edgepipe toolchain install`: a row for each toolchain, its phase and time."""

from __future__ import annotations

import threading
import time

from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_ENDS = ("ready", "present")


class InstallTable:
    """Drawn anew at every refresh, so that the seconds run on between two phases."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, float, float]] = {}
        self._spinner = Spinner("dots")
        self._lock = threading.Lock()

    def enter(self, name: str, phase: str, seconds: float) -> None:
        """Called by the threads that make toolchains."""
        with self._lock:
            self._rows[name] = (phase, seconds, time.monotonic())

    def __rich__(self) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        with self._lock:
            rows = dict(self._rows)
        for name, (phase, seconds, since) in rows.items():
            ended = phase.startswith(_ENDS)
            total = seconds if ended else seconds + time.monotonic() - since
            mark = Text("✓", style="green") if ended else self._spinner
            table.add_row(mark, name, phase, f"{total:.1f} s")
        return table
