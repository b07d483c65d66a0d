"""Writes the locks of the emulated machines anew: `python -m edgepipe.devices.lock_machines`."""

from __future__ import annotations

import hashlib
import lzma
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepipe.devices.debian_mirror import mirrors
from edgepipe.settings import read_toml

FOLDER = Path(__file__).parent / "machines"
HEADER = "# Every package, pinned. Written by `python -m edgepipe.devices.lock_machines {name}`.\n"
QEMU = "qemu-user-static"
QEMU_FOR = "amd64"


def compile_lock(name: str) -> str:
    """The packages as the suite has them now, the wheels as pip would take them."""
    table = read_toml(FOLDER / f"{name}.toml")
    index = _index(table["suite"], table["architecture"])
    emulator = _index(table["suite"], QEMU_FOR)
    lines = [_line("qemu", emulator[QEMU])]
    lines += [_line("deb", index[each]) for each in table["packages"]]
    return HEADER.format(name=name) + "\n".join([*lines, *_wheels(table)]) + "\n"


def _index(suite: str, architecture: str) -> dict[str, dict[str, str]]:
    address = f"{mirrors()[0]}/dists/{suite}/main/binary-{architecture}/Packages.xz"
    with urllib.request.urlopen(address, timeout=120) as answer:
        text = lzma.decompress(answer.read()).decode()
    paragraphs = (
        dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", each, re.M)) for each in text.split("\n\n")
    )
    return {fields["Package"]: fields for fields in paragraphs if fields}


def _line(kind: str, fields: dict[str, str]) -> str:
    return f"{kind} {fields['Filename']} {fields['SHA256']} {fields['Size']}"


def _wheels(table: dict[str, Any]) -> list[str]:
    """One hash each, that of the very wheel; NumPy is left out where Debian brings it."""
    bare = "python3-numpy" in table["packages"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "-d", folder]
        command += ["--only-binary=:all:", "--python-version", table["python"]]
        command += [f"--platform={each}" for each in table["platforms"]]
        command += ["--no-deps"] if bare else []
        subprocess.run([*command, *table["requirements"]], check=True)
        return sorted(_pinned(path) for path in Path(folder).glob("*.whl"))


def _pinned(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name.replace('_', '-').lower()}=={version} --hash=sha256:{digest}"


def main(names: Sequence[str]) -> int:
    for name in names or sorted(path.stem for path in FOLDER.glob("*.toml")):
        (FOLDER / f"{name}.lock").write_text(compile_lock(name), encoding="utf-8")
        sys.stdout.write(f"{name}.lock\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
