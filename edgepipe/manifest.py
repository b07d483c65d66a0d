"""`manifest.json`: the digest of every file that a run wrote to a folder, and its check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepipe import __version__, delivery, onnx_file
from edgepipe.artifact import Format, digest_file, files_below
from edgepipe.errors import PathError, UsageError
from edgepipe.report.document import Written
from edgepipe.store import Store, is_key

SCHEMA = 1
NAME, REPORT = delivery.MANIFEST, "report.json"


@dataclass(frozen=True)
class File:
    """`store` is the key of the kept result that it is a copy of, where it is one."""

    sha256: str
    size: int
    store: str = ""

    def to_json(self) -> dict[str, Any]:
        kept = {"store": self.store} if self.store else {}
        return {"sha256": self.sha256, "size": self.size, **kept}


@dataclass(frozen=True)
class Check:
    """What differs from the manifest; `restored` was brought back out of the store."""

    folder: Path
    files: int
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)
    """Of files that are copies of kept results: whether the store has them, `whole` or `gone`."""

    @property
    def whole(self) -> bool:
        return not self.missing and not self.changed

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "files": self.files,
            **{name: list(getattr(self, name)) for name in ("missing", "changed", "added")},
            "restored": list(self.restored),
            "kept": self.kept,
        }


def write(folder: Path, names: Iterable[str], keys: Mapping[str, str] | None = None) -> Path:
    """Of these files, and of all below those that are folders. Written last of all."""
    found = {
        path.relative_to(folder).as_posix(): path
        for name in names
        for path in ([folder / name] if (folder / name).is_file() else files_below(folder / name))
    }
    found.pop(NAME, None)
    known = keys or {}
    files = {
        name: File(digest_file(path), path.stat().st_size, known.get(name.split("/")[0], ""))
        for name, path in sorted(found.items())
    }
    return _write(folder, files)


def add(folder: Path, names: Iterable[str]) -> Path | None:
    """What a later command wrote beside; nothing where no run left a manifest."""
    if not (folder / NAME).is_file():
        return None
    files = read(folder)
    for name in names:
        path = folder / name
        if path.is_file():
            files[name] = File(digest_file(path), path.stat().st_size)
    return _write(folder, dict(sorted(files.items())))


def of_run(folder: Path, written: Sequence[Written], *beside: str) -> Path:
    """What a conversion wrote: its models with the data beside them, the report and the rest."""
    names = [item.path.name for item in written]
    keys = {item.path.name: _key_of(item.artifact.path) for item in written}
    for item in written:
        if item.artifact.format is Format.ONNX and item.path.is_file():
            outside = onnx_file.external_files(item.path)
            names += [file.relative_to(folder).as_posix() for file in outside]
    names += [*beside, REPORT, delivery.PAGE, delivery.VALIDATION]
    found = [name for name in names if (folder / name).exists()]
    return write(folder, found, {name: key for name, key in keys.items() if key})


def _key_of(path: Path) -> str:
    """Of a path in the store, see `Store.folder`."""
    return next((parent.name for parent in path.parents if is_key(parent.name)), "")


def _write(folder: Path, files: Mapping[str, File]) -> Path:
    document = {
        "schema": SCHEMA,
        "edgepipe": __version__,
        "files": {name: file.to_json() for name, file in files.items()},
    }
    return delivery.write_text(folder / NAME, json.dumps(document, indent=1) + "\n")


def read(folder: Path) -> dict[str, File]:
    path = folder / NAME
    if not path.is_file():
        raise PathError(
            f"{folder} has no {NAME}",
            hint="name a folder that `edgepipe convert` wrote: it leaves one there.",
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise UsageError(
                f"{path} is of schema {document['schema']!r}, expected {SCHEMA}",
                hint="another version of edgepipe wrote it; check it with that one.",
            )
        files = {str(name): File(**file) for name, file in document["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is damaged: {error!r}", hint="make the folder again: edgepipe rerun."
        ) from error
    for name, file in files.items():
        if file.store and not is_key(file.store):
            raise UsageError(f"{path} is damaged: {name} has the store's key {file.store!r}")
    if outside := [name for name in files if ".." in Path(name).parts or Path(name).is_absolute()]:
        raise UsageError(f"{path} names files outside of its folder: {', '.join(outside)}")
    return files


def verify(folder: Path, repair: bool = False) -> Check:
    """Every byte is read. With `repair`, what the store has whole is brought back from there."""
    if not folder.is_dir():
        raise PathError(f"{folder} is no folder", hint="name the output folder of a run.")
    files = read(folder)
    present = {path.relative_to(folder).as_posix() for path in files_below(folder)}
    missing = [name for name in files if name not in present]
    changed = [
        name for name, file in files.items() if name in present and not _same(folder / name, file)
    ]
    kept, restored = {}, []
    with Store() as store:
        for name, file in files.items():
            if not file.store:
                continue
            original = _original(store, file)
            kept[name] = "gone" if original is None else "whole"
            if repair and original is not None and name in (*missing, *changed):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                delivery.copy_file(original, folder / name)
                restored.append(name)
    return Check(
        folder,
        len(files),
        tuple(name for name in missing if name not in restored),
        tuple(name for name in changed if name not in restored),
        tuple(sorted(name for name in present - set(files) if name != NAME)),
        tuple(restored),
        kept,
    )


def _same(path: Path, file: File) -> bool:
    return path.stat().st_size == file.size and digest_file(path) == file.sha256


def _original(store: Store, file: File) -> Path | None:
    """The store checks every byte of what it gives; the name may differ, the content may not."""
    entry = store.find(file.store)
    if entry is None:
        return None
    return next((path for path in files_below(entry.path) if _same(path, file)), None)
