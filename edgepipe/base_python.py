"""Finds a Python that a toolchain can be made with: this one, one on PATH, pyenv's, uv's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepipe.errors import ToolchainFailed
from edgepipe.requirement import Range

PREFERRED = ("3.11", "3.12", "3.13", "3.10", "3.14")
"""The order in which other versions than the current one are tried: as the locks were tested."""
PROBE_SECONDS = 20
_PROBE = """
import importlib.util, json, struct, sys, sysconfig
print(json.dumps({
    "version": ".".join(map(str, sys.version_info[:3])),
    "usual": sys.implementation.name == "cpython" and struct.calcsize("P") == 8
    and not sysconfig.get_config_var("Py_GIL_DISABLED"),
    "venv": all(map(importlib.util.find_spec, ("venv", "ensurepip"))),
}))
"""


@dataclass(frozen=True)
class BasePython:
    """A Python that runs; `path` may be only a version, for uv to find or fetch."""

    path: str
    version: str


def choose(wanted: Range, toolchain: str, uv: list[str] | None) -> BasePython:
    """The first that runs and is in range. Without uv it must be able to make environments."""
    looked = []
    for path in _candidates(wanted, uv):
        looked.append(path)
        told = probe(path)
        if told is None or not told["usual"] or not wanted.holds(str(told["version"])):
            continue
        if uv is not None or told["venv"]:
            return BasePython(path, str(told["version"]))
    if uv is not None:  # uv fetches one, if its own settings allow that.
        version = next(each for each in PREFERRED if wanted.holds(each))
        return BasePython(version, version)
    raise ToolchainFailed(
        f"the toolchain {toolchain!r} needs Python {wanted.text} with venv and ensurepip;"
        f" none of these is one: {', '.join(looked)}",
        hint=f"install such a Python (Debian: python3.12 python3.12-venv), or uv, or name one"
        f" that has its packages in EDGEPIPE_PYTHON_{toolchain.replace('-', '_').upper()}.",
        toolchain=toolchain,
    )


def probe(path: str) -> dict[str, object] | None:
    """What a Python says of itself; None for one that doesn't run, such as an idle pyenv shim."""
    try:
        answer = subprocess.run(
            [path, "-I", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=True,
        )
        told: dict[str, object] = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return told


def _candidates(wanted: Range, uv: list[str] | None) -> Iterator[str]:
    """Cheap ones first; each is asked for only when those before it did not do."""
    versions = [each for each in PREFERRED if wanted.holds(f"{each}.99")]
    if sys.executable:
        yield sys.executable
    for version in versions:
        yield from _on_path(f"python{version}")
        yield from _of_pyenv(version)
    yield from _on_path("python3")
    if uv is not None:
        yield from _of_uv(uv, wanted)


def _on_path(name: str) -> Iterator[str]:
    """Every one, not the first only: the first may be a shim that does not run."""
    for folder in os.get_exec_path():
        found = shutil.which(name, path=folder)
        if found:
            yield found


def _of_pyenv(version: str) -> Iterator[str]:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    patch = re.compile(rf"{re.escape(version)}\.(\d+)")
    found = [
        (int(match[1]), folder / "bin" / "python")
        for folder in (root / "versions").glob(f"{version}.*")
        if (match := patch.fullmatch(folder.name))
    ]
    yield from (str(python) for _, python in sorted(found, reverse=True))


def _of_uv(uv: list[str], wanted: Range) -> Iterator[str]:
    answer = subprocess.run(
        [*uv, "python", "find", "--no-project", wanted.text], capture_output=True, text=True
    )
    if answer.returncode == 0:
        yield answer.stdout.strip()
