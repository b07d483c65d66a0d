"""Installs pinned wheels for another processor, with uv or pip as the user has set them."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgepipe.errors import ToolchainFailed
from edgepipe.package_installer import Installer
from edgepipe.tool_process import ToolProcesses

if TYPE_CHECKING:
    from edgepipe.devices.emulated_machine import Machine

TAIL_LINES = 8


def install(machine: Machine, folder: Path) -> None:
    """Only wheels, only those whose digest is in the lock, and nothing besides."""
    with tempfile.TemporaryDirectory(prefix="edgepipe-wheels-") as scratch:
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text("\n".join(machine.wheels) + "\n")
        command, environment = _command(machine)
        command += ["--target", str(folder), "--python-version", machine.python]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "-r", str(wanted)]
        ended = ToolProcesses().run(command, environment, Path(scratch))
    if ended.code:
        told = "".join(f"\n  {line}" for line in ended.lines[-TAIL_LINES:])
        raise ToolchainFailed(
            f"the wheels of the emulated {machine.name} could not be had (exit code {ended.code});"
            f" the last words:{told}",
            hint="see that the package index that uv or pip is set to has them for"
            f" {machine.platforms[0]} and Python {machine.python}, then try again.",
        )


def _command(machine: Machine) -> tuple[list[str], dict[str, str]]:
    installer = Installer.detect()
    if installer.uv and machine.uv_platform:
        command = [*installer.uv, "pip", "install", "--python-platform", machine.uv_platform]
        return [*command, *(["--no-index"] if installer.no_index else [])], installer.environment
    # uv knows no 32-bit Arm: docs.astral.sh/uv/reference/cli, --python-platform.
    platforms = [f"--platform={each}" for each in machine.platforms]
    environment = {**os.environ, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip = ["-m", "pip"] if importlib.util.find_spec("pip") else []
    start = [sys.executable, *pip] if pip else [*(installer.uv or []), "tool", "run", "pip"]
    if not pip and not installer.uv:
        raise ToolchainFailed("expected pip or uv, found neither", hint="run `pip install uv`.")
    return [*start, "install", "--progress-bar", "off", *platforms], environment
