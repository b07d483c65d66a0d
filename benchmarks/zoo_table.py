"""A table over the networks of the zoo: the command line, the lines as they come, the JSON file."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import zoo


class Row(Protocol):
    """A frozen dataclass that knows how it looks."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def cells(self) -> tuple[str, ...]: ...


R = TypeVar("R", bound=Row)
Job = Callable[[Path], Iterable[R]]
"""Given the folder that is kept; yields the rows of one network."""


def arguments(doc: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks; default: all")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--keep", type=Path, help="keep models and results in this folder")
    return parser


def read(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The flags, with all networks where none was named."""
    flags = parser.parse_args()
    known = (*zoo.TIMM, *zoo.KERAS)
    unknown = set(flags.names) - set(known)
    if unknown:
        parser.error(f"unknown networks: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    flags.names = flags.names or known
    return flags


def show(flags: argparse.Namespace, header: Sequence[str], jobs: Sequence[Job[R]]) -> list[R]:
    """Do the jobs and print their rows, in Markdown, with a store of their own."""
    print("| " + " | ".join(header) + " |\n|" + " --- |" * len(header), flush=True)
    rows: list[R] = []
    with tempfile.TemporaryDirectory(prefix="edgepipe-zoo-") as scratch:
        keep = (flags.keep or Path(scratch)).absolute()
        keep.mkdir(parents=True, exist_ok=True)
        os.environ["EDGEPIPE_STORE"] = str(keep / "store")
        for job in jobs:
            for row in job(keep):
                rows.append(row)
                print("| " + " | ".join(row.cells()) + " |", flush=True)
            if flags.json:
                flags.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return rows


def network_file(network: str, keep: Path) -> Path:
    """The network as its framework saves it, made where it isn't kept."""
    model = keep / f"{network}{'.keras' if network in zoo.KERAS else '.pt2'}"
    if not model.exists():
        zoo.make(network, model)
    return model
