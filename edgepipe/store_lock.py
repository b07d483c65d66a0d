"""File locks between processes and threads, let go by the kernel when their holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.2


@dataclass(frozen=True)
class Waiting:
    """What is being waited for, since when, and the process that holds it (None: not known)."""

    what: str
    seconds: float
    pid: int | None


OnWait = Callable[[Waiting], None]


class FileLock:
    """One held `flock`. It belongs to the open file, so two threads exclude each other too."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def release_and_remove(self) -> None:
        """Only for the holder of the exclusive lock: nobody else can be relying on the file."""
        self.path.unlink(missing_ok=True)
        self.release()

    def sign(self) -> None:
        """Leave this process' number in the file, for those who wait."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)


def try_lock(path: Path, *, shared: bool = False) -> FileLock | None:
    """The lock, or None if another holds it.

    A lock file may be removed by its exclusive holder, so after taking it one has to see that
    the path still leads to the file that was locked.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        descriptor = _open(path, shared)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if _leads_to(path, descriptor):
                return FileLock(descriptor, path)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def lock(
    path: Path, *, shared: bool = False, what: str = "", on_wait: OnWait | None = None
) -> FileLock:
    """The lock, however long it takes; `on_wait` is called again and again meanwhile.

    It asks and sleeps instead of blocking in the kernel: so it can report, and Ctrl-C works.
    """
    start, pause = time.monotonic(), FIRST_PAUSE
    while (held := try_lock(path, shared=shared)) is None:
        if on_wait is not None:
            on_wait(Waiting(what, time.monotonic() - start, _holder(path)))
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
    return held


def _open(path: Path, shared: bool) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        if not shared:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _leads_to(path: Path, descriptor: int) -> bool:
    mine = os.fstat(descriptor)
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _holder(path: Path) -> int | None:
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None
