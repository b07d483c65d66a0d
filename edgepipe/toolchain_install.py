"""Makes toolchains: aside, then renamed, under a lock each, two at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from edgepipe import base_python
from edgepipe.errors import DiskFull, EdgepipeError, PathError, ToolchainFailed, ToolchainMissing
from edgepipe.interpreter import Interpreter, distributions
from edgepipe.package_installer import Installer, failure, phase_of
from edgepipe.store_lock import lock, try_lock
from edgepipe.tool_process import ToolProcesses
from edgepipe.toolchain import (
    RECORD,
    Progress,
    Toolchain,
    find,
    lock_path,
    look_at,
    made_root,
    take_away,
)

AT_A_TIME = 2
"""Unpacking keeps a disk busy and the import check a core; more gain nothing."""


def install_all(wanted: Sequence[Toolchain], progress: Progress | None) -> list[Interpreter]:
    """Make those that can't be found. All are tried before a failure is told."""
    tell = progress or (lambda name, phase, seconds: None)
    to_make = [each for each in wanted if not _present(each, tell)]
    if to_make:
        _prepare(made_root())
        _make_all(to_make, Installer.detect(), tell)
    return [find(each.name) for each in wanted]


def _present(wanted: Toolchain, tell: Progress) -> bool:
    try:
        found = find(wanted.name)
    except ToolchainMissing as error:
        if not error.details.get("install"):
            raise  # A named interpreter comes first: making another would not help.
        return False
    tell(wanted.name, f"present ({found.how})", 0.0)
    return True


def _prepare(root: Path) -> None:
    """The folder, without what killed installations left in it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with lock(root / "writable.lock") as held:
            held.release_and_remove()
    except OSError as error:
        raise PathError(
            f"the cache folder {str(root)!r} can't be written: {error.strerror}",
            hint="set EDGEPIPE_CACHE to a folder of your own.",
        ) from error
    for folder in [*root.glob("*.partial-*"), *root.glob("*.removed-*")]:
        name = folder.name.partition(".")[0].rpartition("-")[0]
        held_by_us = try_lock(lock_path(name))  # Whoever is at work on one holds its lock.
        if held_by_us is not None:
            with held_by_us:
                shutil.rmtree(folder, ignore_errors=True)


def _make_all(wanted: Sequence[Toolchain], installer: Installer, tell: Progress) -> None:
    tools = ToolProcesses()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        makers = [_Maker(each, installer, tools, tell) for each in wanted]
        futures = [pool.submit(maker.make) for maker in makers]
        try:
            wait(futures)
        except BaseException:  # Ctrl-C: the threads end when their tools do, and tidy up.
            tools.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    _raise_failures(futures)


def _raise_failures(futures: Sequence[Future[None]]) -> None:
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if len(errors) == 1 or not isinstance(error, EdgepipeError):
            raise error
    told = [error for error in errors if isinstance(error, EdgepipeError)]
    if told:
        raise ToolchainFailed(
            "\n".join(error.message for error in told),
            hint="\n".join(dict.fromkeys(error.hint for error in told)),
            failures=[error.to_json() for error in told],
        )


@dataclass
class _Maker:
    """Makes one toolchain."""

    wanted: Toolchain
    installer: Installer
    tools: ToolProcesses
    progress: Progress
    start: float = 0.0
    phase: str = ""

    def make(self) -> None:
        self.start = time.monotonic()
        name, folder = self.wanted.name, self.wanted.folder
        aside = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
        with lock(lock_path(name), on_wait=lambda waiting: self._wait(waiting.pid)) as held:
            held.sign()
            if look_at(self.wanted)[0] is not None:
                self._enter("present (made)")  # By the process that was waited for.
                return
            try:
                self._build(aside)
                if folder.exists():
                    take_away(folder)  # It was damaged, or it would have been found.
                aside.rename(folder)
            except OSError as error:
                raise _of_system(self.wanted, error) from error
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        self._enter("ready")

    def _wait(self, pid: int | None) -> None:
        self.tools.refuse_if_stopped()
        self._enter(f"waiting for process {pid}" if pid else "waiting for another process")

    def _enter(self, phase: str) -> None:
        if phase and phase != self.phase:
            self.phase = phase
            self.progress(self.wanted.name, phase, time.monotonic() - self.start)

    def _build(self, aside: Path) -> None:
        self._enter("python")
        base = base_python.choose(self.wanted.python, self.wanted.name, self.installer.uv)
        self._enter("create")
        self._run("making the environment", self.installer.create(base, aside))
        self._enter("resolve")
        fill = self.installer.fill(self.wanted, aside)
        self._run("installing the packages", fill, lambda line: self._enter(phase_of(line)))
        self._enter("check")
        imports = "; ".join(f"import {module}" for module in self.wanted.imports)
        self._run("importing them", [str(aside / "bin" / "python"), "-I", "-c", imports])
        _write_record(self.wanted, aside, "pip" if self.installer.uv is None else "uv")

    def _run(
        self, step: str, command: list[str], on_line: Callable[[str], None] = lambda line: None
    ) -> None:
        # In the cache's own folder: uv reads the pyproject.toml of where it is.
        ended = self.tools.run(command, self.installer.environment, made_root(), on_line)
        if ended.code != 0:
            raise failure(self.wanted, step, ended)


def _write_record(wanted: Toolchain, aside: Path, made_with: str) -> None:
    """What `find` reads instead of asking the interpreter."""
    told = base_python.probe(str(aside / "bin" / "python"))
    sites = sorted(aside.glob("lib/python3*/site-packages"))
    if told is None or len(sites) != 1:
        raise ToolchainFailed(
            f"the toolchain {wanted.name!r} was made and its Python does not run",
            hint=f"run `edgepipe toolchain install {wanted.name}` again.",
        )
    record = {
        "toolchain": wanted.name,
        "digest": wanted.digest,
        "python": told["version"],
        "site": str(sites[0].relative_to(aside)),
        "versions": distributions(sites),
        "size": _size(aside),
        "made_with": made_with,
    }
    (aside / RECORD).write_text(json.dumps(record, indent=1))


def _size(folder: Path) -> int:
    """Bytes on disk; uv links files from its own cache where it can, and they count here too."""
    return sum(
        (Path(root) / name).lstat().st_blocks * 512
        for root, _, names in os.walk(folder)
        for name in names
    )


def _of_system(wanted: Toolchain, error: OSError) -> EdgepipeError:
    if error.errno == errno.ENOSPC:
        return DiskFull(
            f"no space left while making the toolchain {wanted.name!r}",
            hint="make room, or set EDGEPIPE_CACHE to another disk.",
        )
    return ToolchainFailed(
        f"the toolchain {wanted.name!r} could not be made: {error}",
        hint=f"see that {str(made_root())!r} can be written, then run"
        f" `edgepipe toolchain install {wanted.name}` again.",
        toolchain=wanted.name,
    )
