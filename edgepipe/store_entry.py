"""One entry of the store on disk: its files, and the record that proves that they are whole.

`<key>/entry.json` says what it is, its facts, and the size and SHA-256 of each file;
`<key>/data/` has the files as `make` wrote them.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepipe.artifact import digest_file, files_below
from edgepipe.errors import InternalError
from edgepipe.store_key import canonical

SCHEMA = 1
RECORD, DATA = "entry.json", "data"


@dataclass(frozen=True)
class Entry:
    """A whole entry. `path` is the folder with its files; `kept` says that nothing was made."""

    key: str
    path: Path
    facts: dict[str, Any]
    size: int
    what: str = ""
    created: float = 0.0
    kept: bool = False


class Damaged(Exception):
    """Why an entry can't be used; never leaves the store."""


def write_record(folder: Path, key: str, what: str, facts: dict[str, Any]) -> Entry:
    """Describe what lies in `folder/data` and put the record, synced, beside it."""
    files = {name: _seal(file) for name, file in _listed(folder / DATA).items()}
    record = {
        "schema": SCHEMA,
        "key": key,
        "what": what,
        "created": time.time(),
        "facts": _checked(facts, what),
        "files": files,
    }
    sealed = {"sha256": hashlib.sha256(canonical(record)).hexdigest(), "entry": record}
    with (folder / RECORD).open("x", encoding="utf-8") as file:
        json.dump(sealed, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    return _entry(folder, record, kept=False)


def read_entry(folder: Path, key: str) -> Entry:
    """The entry, its record checked but not yet its files. Raises `Damaged`."""
    return _entry(folder, _record(folder, key), kept=True)


def check_entry(folder: Path, key: str) -> Entry:
    """The entry, every byte of it checked. Raises `Damaged`.

    Sizes and times would be a cheaper check, but no proof: a disk or a tool that changes bytes
    in place and keeps the time goes unseen. SHA-256 runs at more than 1 GB/s.
    """
    record = _record(folder, key)
    for name, (size, _) in record["files"].items():
        _check_size(folder / DATA / name, name, size)
    for name, (_, digest) in record["files"].items():
        if _digest(folder / DATA / name, name) != digest:
            raise Damaged(f"{name} has other content than was written")
    return _entry(folder, record, kept=True)


def touch(folder: Path) -> None:
    """Note that the entry was used just now."""
    try:
        os.utime(folder / RECORD)
    except OSError:
        # A store that can only be read serves its entries all the same; only `gc`, which
        # can't write there either, asks for this time.
        return


def last_used(folder: Path) -> float:
    return (folder / RECORD).stat().st_mtime


def _entry(folder: Path, record: dict[str, Any], kept: bool) -> Entry:
    return Entry(
        key=record["key"],
        path=folder / DATA,
        facts=record["facts"],
        size=sum(size for size, _ in record["files"].values()),
        what=record["what"],
        created=record["created"],
        kept=kept,
    )


def _checked(facts: dict[str, Any], what: str) -> dict[str, Any]:
    """The facts as they will be read back, so that made and kept entries say the same."""
    try:
        read: dict[str, Any] = json.loads(json.dumps(facts))
    except (TypeError, ValueError) as error:
        raise InternalError(f"the facts of {what or 'an entry'} are not JSON: {error}") from error
    return read


def _listed(data: Path) -> dict[str, Path]:
    for path in data.rglob("*"):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InternalError(
                f"only plain files can be kept, and {path.name!r} is a link or a device",
                file=str(path),
            )
    return {file.relative_to(data).as_posix(): file for file in files_below(data)}


def _seal(file: Path) -> list[Any]:
    return [file.stat().st_size, digest_file(file)]


def _record(folder: Path, key: str) -> dict[str, Any]:
    try:
        sealed = json.loads((folder / RECORD).read_bytes())
        record: dict[str, Any] = sealed["entry"]
        whole = sealed["sha256"] == hashlib.sha256(canonical(record)).hexdigest()
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise Damaged(f"{RECORD} can't be read: {error!r}") from error
    if not whole:
        raise Damaged(f"{RECORD} has other content than was written")
    if record["schema"] != SCHEMA or record["key"] != key:
        raise Damaged(f"{RECORD} is of schema {record['schema']} and key {record['key']}")
    return record


def _check_size(file: Path, name: str, size: int) -> None:
    try:
        there = file.lstat()
    except OSError as error:
        raise Damaged(f"{name} is missing: {error}") from error
    if not stat.S_ISREG(there.st_mode):
        raise Damaged(f"{name} is not a file any more")
    if there.st_size != size:
        raise Damaged(f"{name} has {there.st_size} bytes instead of {size}")


def _digest(file: Path, name: str) -> str:
    try:
        return digest_file(file)
    except OSError as error:
        raise Damaged(f"{name} can't be read: {error}") from error
