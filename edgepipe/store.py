"""Content-addressed results: what was made once is kept under the hash of all that made it.

    <root>/v1/<k>/<key>/   whole entries, see `store_entry`
    <root>/making/         what is being made, each folder with a lock file beside it
    <root>/locks/          `<key>.make`: held by the one who makes it
                           `<key>.use`: shared by all who use it; `gc` removes no entry that is used

A folder in `v1` is there or not: it is written in `making` and renamed. What a killed process
left in `making` is removed by the next one that makes something; it is known to be dead by its
lock, which the kernel freed.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgepipe.errors import DiskFull, EdgepipeError, InternalError, PathError
from edgepipe.store_entry import (
    DATA,
    Damaged,
    Entry,
    check_entry,
    touch,
    write_record,
)
from edgepipe.store_key import key
from edgepipe.store_lock import FileLock, OnWait, Waiting, lock, try_lock

if TYPE_CHECKING:
    from edgepipe.store_upkeep import Damage, GcReport, Progress, StoreInfo

__all__ = ["Entry", "Make", "Store", "Waiting", "default_root", "key"]

Make = Callable[[Path], dict[str, Any]]
"""Writes files into the folder that it is given, and returns facts about them, as JSON."""

LAYOUT = "v1"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def default_root() -> Path:
    """`EDGEPIPE_STORE`, or `folder` in edgepipe.toml's [store], or `store` in the cache."""
    named = os.environ.get("EDGEPIPE_STORE")
    if named:
        return Path(named).expanduser()
    from edgepipe.settings import cache_root, store_folder

    return store_folder() or cache_root() / "store"


class Store:
    """The entries below `root`. What it fetched is safe from `gc` until it is closed."""

    key = staticmethod(key)

    def __init__(self, root: Path | None = None) -> None:
        self.root = (default_root() if root is None else Path(root)).absolute()
        self._entries = self.root / LAYOUT
        self._making = self.root / "making"
        self._locks = self.root / "locks"
        self._used: dict[str, FileLock] = {}
        self._mutex = threading.Lock()
        self._swept = False

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others remove what this store fetched."""
        with self._mutex:
            for held in self._used.values():
                held.release()
            self._used.clear()

    def fetch(self, key: str, make: Make, what: str = "", on_wait: OnWait | None = None) -> Entry:
        """The entry of that key, made if there is none that is whole.

        Of many processes or threads that ask for the same key one makes it and the others wait.
        `what` says in a word or two what it is; the first word is its kind in `info`.
        """
        self._check_key(key)
        with self._errors():
            self._use(key)
            return self._find(key) or self._make(key, make, what, on_wait)

    def find(self, key: str) -> Entry | None:
        """The entry of that key if there is a whole one."""
        self._check_key(key)
        with self._errors():
            self._use(key)
            return self._find(key)

    def require(self, needed: int = 0) -> None:
        """Fail now rather than after an hour: can be written, and has so many bytes free."""
        with self._errors():
            with self._workplace():
                pass
            free = shutil.disk_usage(self.root).free
        if free < needed:
            raise _disk_full(self.root, f"needs {needed:,} bytes", needed=needed)

    def info(self) -> StoreInfo:
        from edgepipe import store_upkeep

        return store_upkeep.info(self)

    def gc(
        self,
        max_size: int | None = None,
        older_than: float | None = None,
        dry_run: bool = False,
    ) -> GcReport:
        """Remove what was not used for `older_than` seconds, then the least recently used ones
        until all entries together have at most `max_size` bytes."""
        from edgepipe import store_upkeep

        with self._errors():
            return store_upkeep.gc(self, max_size, older_than, dry_run)

    def verify(self, repair: bool = False, progress: Progress | None = None) -> list[Damage]:
        """Check every byte of every entry; `repair` removes the damaged, to be made again."""
        from edgepipe import store_upkeep

        with self._errors():
            return store_upkeep.verify(self, repair, progress)

    def folder(self, key: str) -> Path:
        return self._entries / key[:2] / key

    def all_keys(self) -> list[str]:
        """Of all entries, whole or not."""
        return sorted(folder.name for folder in self._entries.glob("??/*") if is_key(folder.name))

    def remove(self, key: str) -> bool:
        """Remove an entry, whether this store uses it or not; False if another does."""
        with self._mutex:
            held = self._used.pop(key, None)
        if held is not None:
            held.release()
        return self.remove_unused(key)

    def remove_unused(self, key: str) -> bool:
        """Remove an entry unless somebody, this store too, uses or makes it right now."""
        use = try_lock(self._lock_file(key, "use"))
        if use is None:
            return False
        with use:
            making = try_lock(self._lock_file(key, "make"))
            if making is None:
                return False
            self._discard(self.folder(key))
            making.release_and_remove()
            use.release_and_remove()
        return True

    def sweep(self) -> None:
        """Remove what processes that died left behind."""
        if not self._making.is_dir():
            return
        for name in {path.name.removesuffix(".lock") for path in self._making.iterdir()}:
            held = try_lock(self._making / f"{name}.lock")
            if held is not None:
                _clear(self._making / name, held)
        for name in {path.stem for path in self._locks.glob("*.*")}:
            if is_key(name) and not self.folder(name).exists():
                self.remove_unused(name)

    def _find(self, key: str) -> Entry | None:
        try:
            entry = check_entry(self.folder(key), key)
        except Damaged:
            return None
        touch(self.folder(key))
        return entry

    def _make(self, key: str, make: Make, what: str, on_wait: OnWait | None) -> Entry:
        with lock(self._lock_file(key, "make"), what=what, on_wait=on_wait) as making:
            making.sign()
            # Whoever held the lock before may have made it.
            entry = self._find(key)
            if entry is not None:
                return entry
            self._sweep_once()
            self._discard(self.folder(key))
            return self._make_now(key, make, what)

    def _make_now(self, key: str, make: Make, what: str) -> Entry:
        target = self.folder(key)
        with self._workplace() as folder:
            (folder / DATA).mkdir()
            facts = make(folder / DATA)
            entry = write_record(folder, key, what, facts)
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
        return replace(entry, path=target / DATA)

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        """A private folder that vanishes, unless it was moved, whatever happens."""
        self._making.mkdir(parents=True, exist_ok=True)
        folder = self._making / f"{os.getpid()}-{os.urandom(8).hex()}"
        held = lock(folder.with_name(f"{folder.name}.lock"))
        try:
            folder.mkdir()
            yield folder
        finally:
            _clear(folder, held)

    def _discard(self, folder: Path) -> None:
        """Take an entry out of sight in one step, then delete it."""
        if os.path.lexists(folder):
            with self._workplace() as aside:
                folder.rename(aside / "discarded")

    def _sweep_once(self) -> None:
        if not self._swept:
            self._swept = True
            self.sweep()

    def _use(self, key: str) -> None:
        """Hold the shared lock until `close`. In a store that can't be written `gc` can't run."""
        with self._mutex:
            if key in self._used:
                return
            try:
                self._used[key] = lock(self._lock_file(key, "use"), shared=True)
            except OSError as error:
                if error.errno not in (*READ_ONLY, errno.ENOENT):
                    raise

    def _lock_file(self, key: str, kind: str) -> Path:
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if not self._locks.is_dir():
                raise error
        return self._locks / f"{key}.{kind}"

    def _check_key(self, key: str) -> None:
        if not is_key(key):
            raise InternalError(f"a key has 64 hexadecimal digits, received {key!r}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._explain(error) from error

    def _explain(self, error: OSError) -> EdgepipeError | OSError:
        place = Path(os.fsdecode(error.filename)) if error.filename else self.root
        if error.errno in FULL:
            return _disk_full(place if error.filename else self.root, error.strerror or "full")
        if error.filename and self._is_ours(place):
            return PathError(
                f"the store's folder {self.root} can't be used: {error.strerror} ({place})",
                hint="name another one with EDGEPIPE_STORE=FOLDER.",
                folder=str(self.root),
            )
        return error

    def _is_ours(self, place: Path) -> bool:
        """Below the root, but no file that `make` wrote: errors with those are its own."""
        if place.is_relative_to(self._making):
            return len(place.relative_to(self._making).parts) <= 2
        return place.is_relative_to(self.root) or self.root.is_relative_to(place)


def _clear(folder: Path, held: FileLock) -> None:
    """Delete a folder in `making`; its lock file goes last, so that a rest of it stays known."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        held.release()
    else:
        held.release_and_remove()


def _disk_full(place: Path, why: str, **details: Any) -> DiskFull:
    there = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    return DiskFull(
        f"no space left in {there}: {why}, {free:,} bytes are free",
        hint="make room with `edgepipe store gc --max-size 5GB`, or name a folder on a larger "
        "disk with EDGEPIPE_STORE=FOLDER.",
        folder=str(there),
        free=free,
        **details,
    )


def is_key(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
