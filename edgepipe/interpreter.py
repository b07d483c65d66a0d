"""An interpreter on disk: what is installed in it, told without importing any of it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import site
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepipe.errors import ToolchainMissing
from edgepipe.requirement import normal_name
from edgepipe.settings import cache_root

How = Literal["named", "current", "made"]
PROBE_SECONDS = 30
_PROBE = (
    "import json, sys; print(json.dumps({'python': '.'.join(map(str, sys.version_info[:3])),"
    " 'folders': [folder for folder in sys.path if folder]}))"
)
_NO_PART = frozenset({"edgepipe", "pip"})
"""Distributions that decide no result: a stage's revision speaks for edgepipe."""


@dataclass(frozen=True)
class Interpreter:
    """The Python that runs a toolchain's stages."""

    toolchain: str
    python: Path
    how: How
    version: str
    versions: dict[str, str]
    """Every distribution in it, by its normal name."""
    fingerprint: str
    """Digest over Python, platform and versions: part of the key of every result."""
    gpu: bool = False
    """Whether its workers see the machine's GPU; conversions and proofs never do."""

    @property
    def group(self) -> str:
        """Workers of one group may take each other's jobs."""
        return f"{self.toolchain}, gpu" if self.gpu else self.toolchain

    @staticmethod
    def of(
        toolchain: str, python: Path, how: How, version: str, versions: dict[str, str]
    ) -> Interpreter:
        return Interpreter(
            toolchain, python, how, version, versions, fingerprint(version, versions)
        )


def fingerprint(version: str, versions: dict[str, str]) -> str:
    return _fingerprint(version, frozenset(versions.items()))


@functools.cache
def _fingerprint(version: str, versions: frozenset[tuple[str, str]]) -> str:
    """Once per process for what stayed the same: a run asks for each toolchain several times."""
    platform = f"{sys.platform}-{os.uname().machine}"
    told = sorted((name, text) for name, text in versions if name not in _NO_PART)
    return hashlib.sha256(json.dumps([version, platform, told]).encode()).hexdigest()


def distributions(folders: Iterable[str | Path]) -> dict[str, str]:
    """Normal name -> version of all that is installed in these folders, the first one winning."""
    found: dict[str, str] = {}
    for folder in folders:
        try:
            changed = Path(folder).stat().st_mtime_ns
        except OSError:  # sys.path may name zip files and folders that aren't there.
            continue
        for name, version in _installed(str(folder), changed):
            found.setdefault(name, version)
    return found


@functools.cache
def _installed(folder: str, changed: int) -> tuple[tuple[str, str], ...]:
    """Read once per process: a run asks for each toolchain several times. `changed` is its time."""
    try:
        entries = sorted(entry.name for entry in Path(folder).iterdir())
    except OSError:
        return ()
    told = (_distribution(Path(folder), entry) for entry in entries if entry.endswith("-info"))
    return tuple(pair for pair in told if pair is not None)


def _distribution(folder: Path, entry: str) -> tuple[str, str] | None:
    """Name and version off the name of a metadata folder: `torch-2.13.0+cpu.dist-info`."""
    stem, _, kind = entry.rpartition(".")
    if kind not in ("dist-info", "egg-info") or entry.startswith("~"):
        return None  # pip renames what it is taking away to `~name`.
    parts = stem.split("-")
    if len(parts) > 1:
        return normal_name(parts[0]), parts[1]
    version = _read_version(folder / entry)
    return (normal_name(stem), version) if version else None


def _read_version(metadata: Path) -> str:
    """`python setup.py develop` leaves an egg-info without the version in its name."""
    with contextlib.suppress(OSError):
        for line in (metadata / "PKG-INFO").read_text(errors="replace").splitlines():
            if line.startswith("Version:"):
                return line.partition(":")[2].strip()
    return ""


def current(toolchain: str) -> Interpreter:
    """The interpreter that edgepipe itself runs in, as its workers see it: without user site."""
    folders = [folder for folder in sys.path if folder and folder != site.USER_SITE]
    return Interpreter.of(
        toolchain, Path(sys.executable), "current", _here(), distributions(folders)
    )


def _here() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def named(toolchain: str, python: Path, source: str) -> Interpreter:
    """An interpreter that the user names; `source` says where. Probed once, then remembered."""
    python = _executable(python.expanduser().absolute())
    told = _remembered(python) or _probe(toolchain, python, source)
    versions = distributions(told["folders"])
    return Interpreter.of(toolchain, python, "named", str(told["python"]), versions)


def _executable(path: Path) -> Path:
    """An environment's folder stands for the Python in it."""
    inside = path / "bin" / "python"
    return inside if path.is_dir() and inside.exists() else path


def _probe(toolchain: str, python: Path, source: str) -> dict[str, Any]:
    # As a worker of a named interpreter starts: with PYTHONPATH, without user site.
    command = [str(python), "-s", "-c", _PROBE]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=True
        )
        told: dict[str, Any] = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ToolchainMissing(
            f"{source} names {str(python)!r} for the toolchain {toolchain!r},"
            f" which is no Python that runs: {_reason(error)}",
            hint=f"set it to the path of a python that runs, or take it away and run"
            f" `edgepipe toolchain install {toolchain}`.",
            toolchain=toolchain,
            python=str(python),
        ) from error
    _remember(python, told)
    return told


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        words = str(error.stderr).strip().splitlines()
        return words[-1] if words else f"exit code {error.returncode}"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _memory(python: Path) -> Path:
    asked = json.dumps(
        [str(python), os.environ.get("PYTHONPATH", ""), os.environ.get("PYTHONHOME")]
    )
    digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
    return cache_root() / "interpreters" / f"{digest}.json"


def _stamp(python: Path, folders: list[str]) -> dict[str, int]:
    """What changes when the interpreter is replaced or a .pth file adds a folder to its path."""
    watched = [python.resolve(), python.parent.parent / "pyvenv.cfg", *map(Path, folders)]
    return {str(path): path.stat().st_mtime_ns for path in watched if path.exists()}


def _remembered(python: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(_memory(python).read_text())
        same = told["stamp"] == _stamp(python, told["folders"])
    except (OSError, ValueError, KeyError, TypeError):  # Never written, or damaged: ask again.
        return None
    return told if same and python.exists() else None


def _remember(python: Path, told: dict[str, Any]) -> None:
    path = _memory(python)
    aside = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # A cache that can't be written costs a probe at every run.
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps({**told, "stamp": _stamp(python, told["folders"])}))
        aside.replace(path)
