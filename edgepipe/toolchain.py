"""Toolchains: what each needs, and which interpreter runs it: named, current or made."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepipe import catalog
from edgepipe import interpreter as interpreters
from edgepipe.errors import InternalError, OptionError, ToolchainMissing, UnknownName
from edgepipe.interpreter import Interpreter as Interpreter
from edgepipe.interpreter import distributions
from edgepipe.requirement import Range, Requirement
from edgepipe.settings import cache_root, project_file, project_settings, read_toml
from edgepipe.store_lock import lock

FOLDER = Path(__file__).parent / "toolchains"
RECORD = "toolchain.json"

Progress = Callable[[str, str, float], None]
"""Called with the toolchain's name, the phase that it enters and the seconds so far."""


@dataclass(frozen=True)
class Toolchain:
    """A set of requirements and a Python range; `lock` holds an exact pin of everything."""

    name: str
    words: str
    python: Range
    requirements: tuple[Requirement, ...]
    main: tuple[str, ...]
    """The distributions worth showing in a list."""
    imports: tuple[str, ...]
    doctor: str
    """`edgepipe.module:function` that runs a tiny model in it."""
    lock: Path
    digest: str

    @property
    def environment_name(self) -> str:
        return "EDGEPIPE_PYTHON_" + self.name.replace("-", "_").upper()

    @property
    def folder(self) -> Path:
        """Where it is made."""
        return made_root() / f"{self.name}-{self.digest[:12]}"

    def lacks(self, found: Interpreter) -> tuple[str, ...]:
        """What of the requirements this interpreter does not satisfy, in words."""
        lacking = []
        if not self.python.holds(found.version):
            lacking.append(f"Python {self.python.text} (it is {found.version})")
        for wanted in self.requirements:
            version = found.versions.get(wanted.name)
            if version is None:
                lacking.append(str(wanted))
            elif not wanted.range.holds(version):
                lacking.append(f"{wanted} (it has {version})")
        return tuple(lacking)


@dataclass(frozen=True)
class Made:
    """A made toolchain's folder; `current` is False for one of another release of edgepipe."""

    name: str
    folder: Path
    current: bool
    size: int
    record: dict[str, Any] = field(default_factory=dict)


def made_root() -> Path:
    return cache_root() / "toolchains"


def spec(name: str) -> Toolchain:
    """What the toolchain of this name needs."""
    if name not in catalog.TOOLCHAINS:
        raise UnknownName.of("toolchain", name, catalog.TOOLCHAINS)
    return _read(FOLDER / f"{name}.toml")


@functools.cache
def _read(path: Path) -> Toolchain:
    table = read_toml(path)
    pins = path.with_suffix(".lock")
    requirements = tuple(Requirement.parse(text) for text in table["requirements"])
    try:
        return Toolchain(
            name=path.stem,
            words=table["words"],
            python=Range.parse(table["python"]),
            requirements=requirements,
            main=tuple(table["main"]),
            imports=tuple(table["imports"]),
            doctor=table["doctor"],
            lock=pins,
            digest=_digest(pins, [table["python"], *map(str, requirements)]),
        )
    except KeyError as error:
        raise InternalError(f"{path} has no {error}") from error


def _digest(pins: Path, needs: list[str]) -> str:
    lines = [line.strip() for line in pins.read_text(encoding="utf-8").splitlines()]
    exact = [line for line in lines if line and not line.startswith("#")]
    return hashlib.sha256(json.dumps([needs, exact]).encode()).hexdigest()


def find(name: str) -> Interpreter:
    """The interpreter that runs this toolchain, or ToolchainMissing with the command to type."""
    wanted = spec(name)
    named = _named(wanted)
    if named is not None:
        return named
    current = interpreters.current(name)
    if not wanted.lacks(current):
        return current
    return _made(wanted)


def missing(names: Iterable[str]) -> ToolchainMissing | None:
    """All of these that can't be found, as one error with one command; None when nothing lacks."""
    errors: dict[str, ToolchainMissing] = {}
    for name in dict.fromkeys(names):
        try:
            find(name)
        except ToolchainMissing as error:
            errors[name] = error
    if len(errors) < 2:
        return next(iter(errors.values()), None)
    to_install = [name for name, error in errors.items() if error.details.get("install")]
    hints = [error.hint for error in errors.values() if not error.details.get("install")]
    if to_install:
        hints.insert(0, install_command(to_install))
    return ToolchainMissing(
        f"{len(errors)} toolchains are missing:\n"
        + "\n".join(f"  {error.message}" for error in errors.values()),
        hint="\n".join(hints),
        toolchains=list(errors),
        install=to_install,
    )


def install_command(names: Iterable[str]) -> str:
    return f"run `edgepipe toolchain install {' '.join(names)}`."


def _named(wanted: Toolchain) -> Interpreter | None:
    told = _named_path(wanted)
    if told is None:
        return None
    path, source = told
    found = interpreters.named(wanted.name, path, source)
    lacking = wanted.lacks(found)
    if not lacking:
        return found
    raise ToolchainMissing(
        f"{source} names {str(path)!r} for the toolchain {wanted.name!r},"
        f" which lacks {', '.join(lacking)}",
        hint=f"{_advice(wanted, found)}, or take the name away and run"
        f" `edgepipe toolchain install {wanted.name}`.",
        toolchain=wanted.name,
        python=str(found.python),
        lacks=list(lacking),
    )


def _advice(wanted: Toolchain, found: Interpreter) -> str:
    if not wanted.python.holds(found.version):
        return f"name a Python {wanted.python.text} that has its packages"
    python, needs = str(found.python), [str(each) for each in wanted.requirements]
    if "pip" in found.versions:
        return f"run `{shlex.join([python, '-m', 'pip', 'install', *needs])}`"
    return f"run `{shlex.join(['uv', 'pip', 'install', '--python', python, *needs])}`"


def _named_path(wanted: Toolchain) -> tuple[Path, str] | None:
    """The path that the user names, and where."""
    from_environment = os.environ.get(wanted.environment_name)
    if from_environment:
        return Path(from_environment), wanted.environment_name
    table = project_settings().get("toolchains", {})
    for name in table:
        if name not in catalog.TOOLCHAINS:
            raise UnknownName.of("toolchain in edgepipe.toml", name, catalog.TOOLCHAINS)
    if wanted.name not in table:
        return None
    entry, file = table[wanted.name], project_file()
    python = entry.get("python") if isinstance(entry, dict) and set(entry) == {"python"} else None
    if file is None or not isinstance(python, str):
        raise OptionError(
            f"{file}: [toolchains.{wanted.name}] takes python, received {entry!r}",
            hint='write python = "/path/to/python" below it, and nothing else.',
        )
    return file.parent / Path(python).expanduser(), f"{file} [toolchains.{wanted.name}]"


def _made(wanted: Toolchain) -> Interpreter:
    damage = ""
    if wanted.folder.is_dir():
        found, damage = look_at(wanted)
        if found is not None:
            return found
    state = f"is damaged: {damage}" if damage else "is not installed"
    raise ToolchainMissing(
        f"the toolchain {wanted.name!r} {state}",
        hint=install_command([wanted.name]),
        toolchain=wanted.name,
        install=[wanted.name],
    )


def look_at(wanted: Toolchain) -> tuple[Interpreter | None, str]:
    """The made interpreter, or what is wrong with it. Two folders are read, nothing is started."""
    python = wanted.folder / "bin" / "python"
    try:
        record = json.loads((wanted.folder / RECORD).read_text())
        version, versions = record["python"], record["versions"]
    except (OSError, ValueError, KeyError) as error:
        return None, f"its record can't be read ({error})"
    if not os.access(python, os.X_OK):
        return None, f"its Python is gone ({os.path.realpath(python)})"
    installed = distributions([wanted.folder / record["site"]])
    changed = sorted(set(installed.items()) ^ set(versions.items()))
    if changed:
        return None, f"{changed[0][0]} is not as it was installed"
    return Interpreter.of(wanted.name, python, "made", version, versions), ""


def install(names: Sequence[str], progress: Progress | None = None) -> list[Interpreter]:
    """Make those of these that can't be found; returns all of them."""
    from edgepipe.toolchain_install import install_all

    return install_all([spec(name) for name in dict.fromkeys(names)], progress)


def made() -> list[Made]:
    """Every made toolchain in the cache, those of other releases of edgepipe too."""
    found = []
    for folder in sorted(made_root().glob("*")):
        match = re.fullmatch(r"(?P<name>.+)-[0-9a-f]{12}", folder.name)
        if match and folder.is_dir():
            found.append(_describe(match["name"], folder))
    return found


def _describe(name: str, folder: Path) -> Made:
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):  # Damaged: shown as such, and still to be removed.
        record = {}
    current = name in catalog.TOOLCHAINS and spec(name).folder == folder
    return Made(name, folder, current, int(record.get("size", 0)), record)


def sizes() -> dict[str, int]:
    """Bytes on disk of each made toolchain, as counted when it was made."""
    total: dict[str, int] = {}
    for each in made():
        total[each.name] = total.get(each.name, 0) + each.size
    return total


def remove(names: Iterable[str]) -> list[Made]:
    """Delete what was made under these names, of every release; returns what is gone."""
    wanted = set(names)
    gone = [each for each in made() if each.name in wanted]
    for each in gone:
        with lock(lock_path(each.name)):
            take_away(each.folder)
    return gone


def take_away(folder: Path) -> None:
    """Delete a folder so that nobody ever finds half of it. Under its toolchain's lock."""
    aside = folder.with_name(f"{folder.name}.removed-{os.getpid()}")
    folder.rename(aside)
    shutil.rmtree(aside)


def lock_path(name: str) -> Path:
    """Held by who makes or removes this toolchain."""
    return made_root() / f"{name}.lock"
