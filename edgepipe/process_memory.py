"""How much memory a process and its children hold, and how much the machine has."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def machine_total() -> int:
    """Bytes of physical memory, or of the control group's limit where that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def of_tree(pid: int) -> int:
    """Resident bytes of a process and everything below it; 0 where the system won't tell."""
    total, todo = 0, [pid]
    while todo:
        current = todo.pop()
        folder = Path("/proc") / str(current)
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        with contextlib.suppress(OSError):
            for task in (folder / "task").iterdir():
                todo.extend(map(int, (task / "children").read_text().split()))
    return total


def words(size: float) -> str:
    """A size for people: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def own_peak() -> int:
    """Bytes that this process held at its highest."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
