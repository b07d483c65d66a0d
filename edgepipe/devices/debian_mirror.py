"""Fetches pinned Debian packages from the mirror that this machine's apt is set to."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgepipe.errors import DiskFull, ToolchainFailed

VARIABLE = "EDGEPIPE_DEBIAN_MIRROR"
APT = Path("/etc/apt")
AT_A_TIME = 4
SECONDS = 60
TRIES = 5
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Package:
    """One .deb: where it is below a mirror, and what it must be."""

    path: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        return Path(self.path).name


def mirrors() -> list[str]:
    """The variable's alone, else all that apt uses for Debian's own `main`, security left out."""
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        return [named.rstrip("/")]
    files = [APT / "sources.list", *sorted((APT / "sources.list.d").glob("*"))]
    found = [uri.rstrip("/") for file in files for uri in _uris(file)]
    plain = [uri for uri in found if not uri.endswith("-security")]
    return list(dict.fromkeys(sorted(plain, key=lambda uri: not uri.endswith("/debian"))))


def _uris(file: Path) -> Iterator[str]:
    """Both of apt's forms (sources.list(5)): one line each, and paragraphs of fields."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    if file.suffix == ".sources":
        for paragraph in re.split(r"\n\s*\n", text):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", paragraph, re.M))
            if "main" in fields.get("Components", "").split():
                yield from _usable(fields.get("URIs", "").split())
    elif file.suffix == ".list":
        for line in text.splitlines():
            match = re.match(r"deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+\S+\s+(.*)$", line.strip())
            if match and "main" in match[2].split():
                yield from _usable([match[1]])


def _usable(uris: Sequence[str]) -> Iterator[str]:
    return (uri for uri in uris if uri.startswith(("http://", "https://", "file:/")))


def fetch_all(packages: Sequence[Package], folder: Path) -> list[Path]:
    """All of them in this folder, whole. A piece that an earlier try left is gone on from."""
    known = mirrors()
    if not known:
        raise ToolchainFailed(
            f"expected a Debian mirror in {APT}/sources.list or in {VARIABLE}, found none",
            hint=f"set {VARIABLE} to the address of one, the folder that holds `pool`.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(lambda package: _fetch(package, folder, known), packages))


def _fetch(package: Package, folder: Path, known: Sequence[str]) -> Path:
    path = folder / package.name.replace("%3a", "_")
    if path.exists() and _digest(path) == package.sha256:
        return path
    part = path.with_name(path.name + ".part")
    said = ""
    for mirror in known:
        for _ in range(TRIES):
            try:
                _download(f"{mirror}/{package.path}", part, package.size)
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                said = str(getattr(error, "reason", "") or error)
                if getattr(error, "code", None) == 404:
                    break
                continue
            except OSError as error:
                raise DiskFull(
                    f"{part} can't be written: {error.strerror}",
                    hint="make room, or set EDGEPIPE_CACHE to another disk.",
                ) from error
            if _digest(part) == package.sha256:
                part.rename(path)
                return path
            if part.stat().st_size < package.size:
                said = "the connection was cut"
                continue
            said = "what came is not what is pinned (another sha256)"
            part.unlink()
    raise ToolchainFailed(
        f"{package.name} could not be had from {' or '.join(map(_unsecret, known))}: {said}",
        hint=f"check the network, or set {VARIABLE} to a Debian mirror that has `pool/main`;"
        " what has come so far is kept, and the next try goes on from there.",
    )


def _download(address: str, part: Path, size: int) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    if have == size:
        return
    asked = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
        # A server that knows no ranges sends all of it, with a 200.
        goes_on = have and answer.status == 206
        with part.open("ab" if goes_on else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def _unsecret(address: str) -> str:
    return re.sub(r"(\w+://)[^/\s@]+@", r"\1***@", address)
