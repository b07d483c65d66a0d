"""Writes the locks anew: `python -m edgepipe.toolchains.lock [NAME]...`, with uv on PATH.

A lock pins every package for all Pythons of the range, on Linux and macOS. It holds no hashes,
because a torch for the CPU is another file of the same version, and no index.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from edgepipe import catalog
from edgepipe.errors import InternalError, UnknownName
from edgepipe.package_installer import find_uv
from edgepipe.settings import read_toml

FOLDER = Path(__file__).parent
HEADER = "# Every package, pinned. Written by `python -m edgepipe.toolchains.lock {name}`.\n"
_OF_THIS_MACHINE = ("UV_FIND_LINKS", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_TORCH_BACKEND")


def compile_lock(name: str) -> str:
    """The newest versions that satisfy this toolchain's table, as `uv pip compile` finds them."""
    table = read_toml(FOLDER / f"{name}.toml")
    uv = find_uv()
    if uv is None:
        raise InternalError("uv is not there", hint="run `pip install uv`.")
    lowest = table["python"].partition(",")[0].removeprefix(">=")
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.in"
        wanted.write_text("\n".join(table["requirements"]))
        bounds = Path(folder) / "bounds.txt"
        bounds.write_text("\n".join(table.get("lock_bounds", [])))
        options = ["--universal", "--python-version", lowest, "--no-header", "--no-annotate"]
        made = subprocess.run(
            [*uv, "pip", "compile", "--no-config", *options, "-q", "-c", bounds, wanted],
            env={key: value for key, value in os.environ.items() if key not in _OF_THIS_MACHINE},
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return HEADER.format(name=name) + made.stdout


def main(names: list[str]) -> int:
    for name in names or list(catalog.TOOLCHAINS):
        if name not in catalog.TOOLCHAINS:
            raise UnknownName.of("toolchain", name, catalog.TOOLCHAINS)
        (FOLDER / f"{name}.lock").write_text(compile_lock(name), encoding="utf-8")
        sys.stdout.write(f"{name}.lock\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
