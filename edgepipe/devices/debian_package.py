"""Unpacks .deb files without dpkg and without root: an ar archive with a tar in it."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from edgepipe.errors import ToolchainFailed

_MAGIC = b"!<arch>\n"
_HEADER = 60
"""Bytes of a member's header; its size is in decimal at 48 (deb(5), ar(5))."""


def unpack(package: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Files, links and folders whose path is wanted, below this folder; no owners, no devices."""
    with _data(package) as tar:
        for member in tar:
            name = str(PurePosixPath(member.name))
            if wanted(name):
                _place(tar, member, folder, name)


def take_out(package: Path, wanted: dict[str, Path]) -> None:
    """Single files of a package, by their path in it; the rest is not even read to its end."""
    left = dict(wanted)
    with _data(package) as tar:
        for member in tar:
            target = left.pop(str(PurePosixPath(member.name)), None)
            if target is not None:
                _write(tar, member, target)
            if not left:
                return
    raise ToolchainFailed(
        f"{package.name}: expected {', '.join(left)} in it, and it isn't there",
        hint="that package is not the one that was pinned; this is a bug of edgepipe.",
    )


@contextmanager
def _data(package: Path) -> Iterator[tarfile.TarFile]:
    with package.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ToolchainFailed(f"{package} is no Debian package")
        while header := file.read(_HEADER):
            name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                break
            file.seek(size + size % 2, io.SEEK_CUR)
        else:
            raise ToolchainFailed(f"{package} has no data.tar")
        # A stream: it reads on where the member begins, and no further than it is asked.
        with tarfile.open(fileobj=file, mode="r|xz") as tar:
            yield tar


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, name: str) -> None:
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        raise ToolchainFailed(f"a package wants to write outside of its folder: {name!r}")
    target = folder / name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif member.issym() or member.islnk():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if member.issym():
            target.symlink_to(member.linkname)
        else:
            target.hardlink_to(folder / str(PurePosixPath(member.linkname)))
    elif member.isfile():
        _write(tar, member, target)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
