"""Labels as numbers: from names of folders, from a file, from a column or an array."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepipe.errors import SamplesError


@dataclass(frozen=True)
class Labels:
    """One number for each sample, and the names that the numbers stand for, if any."""

    numbers: tuple[int | None, ...]
    names: tuple[str, ...] = ()


def numbered(texts: Sequence[str], names: Sequence[str] = (), where: str = "") -> Labels:
    """Whole numbers stay as they are (`10` comes after `9`); other names count in their order.

    `names`, where given, is the model's own list, and every label must be in it.
    """
    if names:
        places = {name: place for place, name in enumerate(names)}
        unknown = sorted({text for text in texts if text not in places})
        if unknown:
            raise SamplesError(
                f"{where}: {len(unknown)} labels are not in the list of {len(names)} names:"
                f" {_some(unknown)}",
                hint=f"the list begins with {_some(names)}; the names must be the same.",
            )
        return Labels(tuple(places[text] for text in texts), tuple(names))
    if all(text.isdecimal() for text in texts):
        return Labels(tuple(int(text) for text in texts))
    found = sorted(set(texts))
    places = {name: place for place, name in enumerate(found)}
    return Labels(tuple(places[text] for text in texts), tuple(found))


def read_names(path: Path) -> list[str]:
    """The classes of a model, one a line, in its order."""
    names = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not names or len(set(names)) != len(names):
        raise SamplesError(
            f"{path} holds {len(names)} names, {len(set(names))} different ones",
            hint="write each class once, one a line, in the order of the model's outputs.",
        )
    return names


def names_of(labels: str, labelled: bool, where: Path) -> list[str]:
    """The class names that `--labels` lists for data that brings its labels; none unless a file."""
    path = Path(labels)
    if not labels or not path.is_file():
        return []
    if path.suffix.lower() != ".txt":
        raise SamplesError(
            f"{path} can't label {where}: its labels are one of its own columns or arrays",
            hint="name that with --labels, or give a .txt of the model's classes.",
        )
    if not labelled:
        raise SamplesError(
            f"{where} holds no labels for the classes of {path}",
            hint="name the column or array of labels `label`.",
        )
    return read_names(path)


def read_pairs(path: Path) -> dict[str, str]:
    """A CSV of name and label; a first line whose words are a heading is passed over."""
    rows = [row for row in csv.reader(_text(path).splitlines()) if row]
    if rows and [cell.strip().lower() for cell in rows[0][1:2]] in (["label"], ["class"]):
        del rows[0]
    pairs: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        if len(row) < 2:
            raise SamplesError(
                f"{path}, row {number}: expected name,label, received {','.join(row)!r}",
                hint="write one line for each file: its path below the folder, a comma, its label.",
            )
        name, label = row[0].strip(), row[1].strip()
        if pairs.setdefault(name, label) != label:
            raise SamplesError(f"{path}: {name!r} has two labels, {pairs[name]!r} and {label!r}")
    return pairs


def matched(files: Sequence[str], pairs: dict[str, str], path: Path) -> list[str]:
    """A label for every file, by its path below the folder or its name alone."""
    texts, without = [], []
    used = set()
    for name in files:
        short = name.rpartition("/")[2]
        key = next((key for key in (name, short, short.rpartition(".")[0]) if key in pairs), None)
        if key is None:
            without.append(name)
            continue
        used.add(key)
        texts.append(pairs[key])
    absent = [name for name in pairs if name not in used]
    if without or absent:
        parts = []
        if without:
            parts.append(f"{len(without)} of {len(files)} files have no label ({_some(without)})")
        if absent:
            parts.append(f"{len(absent)} labels belong to no file ({_some(absent)})")
        raise SamplesError(
            f"{path} doesn't match the files: {'; '.join(parts)}",
            hint="write one line for each file: its path below the folder, a comma, its label.",
        )
    return texts


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SamplesError(f"labels can't be read from {path}: {error}") from error


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
