"""What the store holds, which entries are damaged, and which have to go."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import size_of
from edgepipe.store_entry import Damaged, Entry, check_entry, last_used, read_entry

if TYPE_CHECKING:
    from edgepipe.store import Store

Progress = Callable[[int, int, str], None]
"""Entries done, entries in all, and what the next one is."""


@dataclass
class Kind:
    entries: int = 0
    bytes: int = 0


@dataclass
class StoreInfo:
    """Times are seconds since the epoch, None in an empty store. `damaged` counts entries without
    a readable record; only `verify` looks at the files."""

    root: str
    entries: int = 0
    bytes: int = 0
    damaged: int = 0
    oldest: float | None = None
    newest: float | None = None
    kinds: dict[str, Kind] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Damage:
    key: str
    what: str
    reason: str
    removed: bool = False


@dataclass
class GcReport:
    """`bytes_left` counts what stays; `in_use` are entries that would have gone."""

    removed: int = 0
    freed: int = 0
    entries_left: int = 0
    bytes_left: int = 0
    in_use: int = 0
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Used:
    key: str
    size: int
    when: float


def info(store: Store) -> StoreInfo:
    found = StoreInfo(str(store.root))
    for key in store.all_keys():
        entry = _glance(store, key)
        if entry is None:
            found.damaged += 1
            continue
        found.entries += 1
        found.bytes += entry.size
        found.oldest = min(found.oldest or entry.created, entry.created)
        found.newest = max(found.newest or entry.created, entry.created)
        kind = found.kinds.setdefault((entry.what.split() or ["other"])[0], Kind())
        kind.entries += 1
        kind.bytes += entry.size
    return found


def gc(store: Store, max_size: int | None, older_than: float | None, dry_run: bool) -> GcReport:
    report = GcReport(dry_run=dry_run)
    if not dry_run:
        store.sweep()
    entries = sorted(_entries(store), key=lambda used: used.when)
    total = sum(used.size for used in entries)
    limit = None if older_than is None else time.time() - older_than
    for used in entries:
        stale = limit is not None and used.when < limit
        too_much = max_size is not None and total - report.freed > max_size
        if stale or too_much:
            _remove(store, used, report)
    report.entries_left = len(entries) - report.removed
    report.bytes_left = total - report.freed
    return report


def verify(store: Store, repair: bool, progress: Progress | None) -> list[Damage]:
    damaged = []
    keys = store.all_keys()
    for done, key in enumerate(keys):
        entry = _glance(store, key)
        what = "" if entry is None else entry.what
        if progress is not None:
            progress(done, len(keys), what)
        reason = _damage(store, key)
        # Removed by another process meanwhile: gone is not damaged.
        if reason and store.folder(key).exists():
            removed = repair and store.remove(key)
            damaged.append(Damage(key, what, reason, removed))
    return damaged


def _remove(store: Store, used: _Used, report: GcReport) -> None:
    if report.dry_run or store.remove_unused(used.key):
        report.removed += 1
        report.freed += used.size
    else:
        report.in_use += 1


def _entries(store: Store) -> list[_Used]:
    """All entries; one that is damaged counts as never used, so it goes first."""
    found = []
    for key in store.all_keys():
        entry = _glance(store, key)
        try:
            when = 0.0 if entry is None else last_used(store.folder(key))
            size = size_of(store.folder(key)) if entry is None else entry.size
        except OSError:  # removed by another process meanwhile
            continue
        found.append(_Used(key, size, when))
    return found


def _glance(store: Store, key: str) -> Entry | None:
    try:
        return read_entry(store.folder(key), key)
    except Damaged:
        return None


def _damage(store: Store, key: str) -> str:
    try:
        check_entry(store.folder(key), key)
    except Damaged as damage:
        return str(damage)
    return ""
