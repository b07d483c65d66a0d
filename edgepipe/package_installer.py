"""Makes an environment and fills it: uv where there is one, else venv and pip."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from edgepipe.base_python import BasePython
from edgepipe.errors import DiskFull, EdgepipeError, ToolchainFailed
from edgepipe.package_index import pip_forbids_indexes, uv_environment
from edgepipe.tool_process import Ended, ToolProcesses
from edgepipe.toolchain import Toolchain

TAIL_LINES = 12
_NOT_FOR_TOOLS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "PIP_USER")
_NAME = r"[`'\"]?(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
_UNHAD = tuple(
    re.compile(pattern)
    for pattern in (
        rf"Failed to (?:download|build|unzip wheel|extract archive)[^`\n]*`{_NAME}(?:==|`)",
        r"Failed to fetch: \S*?/simple/(?P<name>[A-Za-z0-9._-]+)/",
        r"Failed to fetch: \S*/(?P<name>[A-Za-z0-9_.]+)-\d",
        rf"No matching distribution found for {_NAME}",
        rf"[Bb]ecause there (?:is|are) no versions? of {_NAME}",
        rf"[Bb]ecause {_NAME}(?:[<>=!~]\S*)? (?:was|were) not found",
        rf"[Bb]ecause (?:only )?{_NAME}(?:[<>=!~]\S*)? (?:has no|is available|needs|depends)",
        rf"Failed to establish a new connection.*?/simple/{_NAME}/",
    )
)
"""The package that uv or pip speaks of, most telling words first."""
_PHASES = (
    (re.compile(r"^(?:Resolved|Collecting|Installing build dependencies)"), "download"),
    (re.compile(r"^\s*Downloading (?P<what>\S+) \([\d.]+[KMG]iB\)"), "download"),  # uv's words
    (re.compile(r"^(?:Prepared|Installing collected packages)"), "unpack"),
)
_NO_NETWORK = re.compile(
    r"network was disabled|dns error|name resolution|Connection (?:refused|reset)|"
    r"error sending request|Network is unreachable|not found in the cache|timed out|"
    r"NewConnectionError|ConnectTimeout|certificate",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Installer:
    """The commands to type. `uv` is how to start it, None where there is none."""

    uv: list[str] | None
    environment: dict[str, str]
    no_index: bool = False

    @staticmethod
    def detect() -> Installer:
        clean = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_TOOLS}
        uv = find_uv()
        if uv is None:
            return Installer(None, {**clean, "PIP_NO_INPUT": "1"})
        environment = {**uv_environment(clean), "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
        return Installer(uv, environment, no_index=pip_forbids_indexes(clean))

    def create(self, base: BasePython, folder: Path) -> list[str]:
        if self.uv is None:
            return [base.path, "-I", "-m", "venv", str(folder)]
        # Relocatable: its folder is renamed when all is in it.
        options = ["--relocatable", "--no-project", "--python", base.path]
        return [*self.uv, "venv", *options, str(folder)]

    def fill(self, wanted: Toolchain, folder: Path) -> list[str]:
        """The lock comes in as constraints, so that a torch without CUDA brings no CUDA along."""
        python = str(folder / "bin" / "python")
        needs = ["--constraint", str(wanted.lock), *map(str, wanted.requirements)]
        if self.uv is None:
            return [python, "-m", "pip", "install", "--progress-bar", "off", *needs]
        no_index = ["--no-index"] if self.no_index else []
        return [*self.uv, "pip", "install", "--python", python, *no_index, *needs]


def find_uv() -> list[str] | None:
    """On PATH, if it runs (a pyenv shim may not), else as a package beside edgepipe."""
    for folder in os.get_exec_path():
        found = shutil.which("uv", path=folder)
        if found and _runs([found]):
            return [found]
    if importlib.util.find_spec("uv") is not None and _runs([sys.executable, "-m", "uv"]):
        return [sys.executable, "-m", "uv"]
    return None


def _runs(uv: list[str]) -> bool:
    ended = ToolProcesses().run([*uv, "--version"], os.environ, Path.cwd())
    return ended.code == 0


def phase_of(line: str) -> str:
    """What the installer is at, told by a line of its output; empty where that says nothing."""
    for pattern, phase in _PHASES:
        match = pattern.match(line)
        if match:
            what = match.groupdict().get("what")
            return f"{phase} {what}" if what else phase
    return ""


def failure(wanted: Toolchain, step: str, ended: Ended) -> EdgepipeError:
    """What to tell of a tool that failed: the package, its last words, what to do."""
    lines = [_without_secrets(line) for line in ended.lines if line.strip()]
    text = "\n".join(lines)
    tail = lines[-TAIL_LINES:]
    if os.strerror(errno.ENOSPC) in text:
        return DiskFull(
            f"no space left while making the toolchain {wanted.name!r}",
            hint="make room (`edgepipe toolchain list` shows sizes), or set EDGEPIPE_CACHE to"
            " another disk.",
            tail=tail,
        )
    package = unhad_package(text)
    about = f": {package} could not be had" if package else f" by {step}"
    said = "".join(f"\n  {line}" for line in tail)
    return ToolchainFailed(
        f"the toolchain {wanted.name!r} could not be made{about} (exit code {ended.code});"
        f" its last words:{said}",
        hint=_advice(wanted, text),
        toolchain=wanted.name,
        package=package,
        tail=tail,
    )


def unhad_package(text: str) -> str:
    for pattern in _UNHAD:
        match = pattern.search(text)
        if match:
            return match["name"].rstrip(".")
    return ""


def _advice(wanted: Toolchain, text: str) -> str:
    if _NO_NETWORK.search(text):
        first = "check the network, the proxy and the package index that uv or pip is set to"
    else:
        first = "see that the package index that uv or pip is set to has it for this Python"
    return (
        f"{first} (UV_DEFAULT_INDEX, UV_FIND_LINKS, or pip's settings), then run"
        f" `edgepipe toolchain install {wanted.name}` again; or set {wanted.environment_name} to a"
        " Python that has its packages."
    )


def _without_secrets(line: str) -> str:
    return re.sub(r"(\w+://)[^/\s@]+@", r"\1***@", line)
