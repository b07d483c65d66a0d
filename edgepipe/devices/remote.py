"""What SSH and ADB share: files by digest, jobs that outlive a cut connection, one folder there."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import tempfile
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgepipe.devices import board_guard, feeding
from edgepipe.devices.board import ASK_SECONDS, TAIL, Board, Done, Job, Tell
from edgepipe.devices.inventory import Device
from edgepipe.devices.pieces import Piece, cut
from edgepipe.devices.sending import SLOWEST, Lost, Sending
from edgepipe.errors import DeviceUnreachable, EdgepipeError, StageFailed, ToolMissing

GUARD = "board_guard.py"
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each try to connect again; a board that reboots is not waited for."""
NOT_FOUND = 127
Made = TypeVar("Made")


@dataclass(frozen=True)
class Said:
    code: int
    out: bytes
    errors: str


class RemoteBoard(Board):
    """Its shell is POSIX, with cat, mkdir, mv, rm, tail, wc and sha256sum; busybox has them."""

    folder = ""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.reconnects = 0
        self.sent = 0
        self._warn: Tell = lambda words: None
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False

    # What each kind of connection is.

    @abstractmethod
    def command(self, script: str) -> list[str]:
        """The words that run a shell script on the board, with its input and outputs here."""

    @abstractmethod
    def judge(self, said: Said) -> None:
        """Raises Lost for a connection that failed, an error of ours where it can't be had."""

    # Asking.

    def shell(
        self,
        script: str,
        seconds: float = ASK_SECONDS,
        given: AbstractContextManager[int] | None = None,
        taken: Callable[[bytes], None] | None = None,
    ) -> Said:
        """Run a script there. A failure of the connection raises, one of the script is told."""
        # To a file: ssh's master connection stays behind and would keep a pipe open.
        nothing = contextlib.nullcontext(subprocess.DEVNULL)
        with tempfile.TemporaryFile() as errors, given or nothing as stdin:
            process = subprocess.Popen(
                self.command(script),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
            self._running = process
            try:
                out = _drain(process, seconds, taken)
            finally:
                process.kill()
                process.wait()
            errors.seek(0)
            said = Said(process.returncode, out, errors.read().decode("utf-8", "replace"))
        self.judge(said)
        return said

    def steady(self, act: Callable[[], Made]) -> Made:
        """Do it, again where the connection is lost in the middle."""
        last = Lost()
        for pause in (0.0, *PAUSES):
            if pause:
                self._warn(f"connection lost; trying again in {pause:.0f} s")
                time.sleep(pause)
                self.reconnects += 1
            try:
                made = act()
            except Lost as lost:
                last = lost
            else:
                self._refuse_if_stopped()
                return made
            self._refuse_if_stopped()
        raise DeviceUnreachable(
            f"{self.device.name} ({self.device.words}) was lost, and {len(PAUSES)} tries to reach"
            f" it again failed: {last}",
            hint="is it on, and plugged in? What was copied stays there, and the next run goes on"
            " from it.",
        ) from last

    def stop(self) -> None:
        self._stopped = True
        if self._running is not None:
            self._running.kill()

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise DeviceUnreachable(f"{self.device.name}: stopped")

    def checked(self, script: str, **others: Any) -> str:
        said = self.steady(lambda: self.shell(script, **others))
        if said.code:
            told = " ".join((said.errors or said.out.decode("utf-8", "replace")).split())[-TAIL:]
            raise StageFailed(
                f"{self.device.name}: a command of edgepipe failed there ({said.code}): {told}",
                hint="it needs a POSIX shell with sha256sum, and a folder that can be written:"
                " --folder names another.",
            )
        return said.out.decode("utf-8", "replace")

    @property
    def python(self) -> str:
        return shlex.quote(self.device.python or "python3")

    def ask(self, script: str, arguments: Sequence[str] = ()) -> str:
        words = f"{self.python} -c {shlex.quote(script)} {shlex.join(arguments)}"
        said = self.steady(lambda: self.shell(words))
        self._need_python(said)
        return said.out.decode("utf-8", "replace")

    def _need_python(self, said: Said) -> None:
        if said.code == NOT_FOUND:
            raise ToolMissing(
                f"{self.device.name} has no {self.device.python or 'python3'} on the PATH of"
                " commands from outside",
                hint="install it there (`sudo apt install python3`), or name it: `edgepipe device"
                f" add {self.device.name} … --python PATH --force`.",
            )
        if said.code:
            told = " ".join(said.errors.split())[-TAIL:]
            raise DeviceUnreachable(f"the Python of {self.device.name} failed: {told}")

    # Files.

    def root(self) -> str:
        """The one folder, made for this user alone; as a word for the shell."""
        if not self.folder:
            named = self.device.folder
            wanted = shlex.quote(named) if named else '"$HOME/.cache/edgepipe-device"'
            said = self.checked(
                f"umask 077; mkdir -p {wanted}/files && cd {wanted} || exit 1; {_SWEEP}; pwd"
            )
            self.folder = shlex.quote(said.strip().splitlines()[-1])
        return self.folder

    def put(self, pieces: Sequence[Piece], tell: Tell) -> None:
        """What the board has already is not sent, and what came halfway is gone on with."""
        root = self.root()
        unique = {piece.sha256: piece for piece in pieces}
        names = [f"{root}/files/{digest}{end}" for digest in unique for end in ("", ".part")]
        sizes = self.steady(lambda: self.size_of(names))
        found = zip(unique.values(), sizes[::2], sizes[1::2], strict=True)
        lacking = [(piece, part) for piece, whole, part in found if whole != piece.size]
        if lacking:
            tell(f"sending {sum(piece.size for piece, _ in lacking) / 1e6:.1f} MB")
        for piece, had in lacking:
            self.steady(Sending(self, piece, f"{root}/files/{piece.sha256}", had).go)

    def size_of(self, names: Sequence[str]) -> list[int]:
        """Bytes of each of these files there, -1 where there is none."""
        return [int(line) for line in self.shell(_sizes(names)).out.split()]

    # Jobs.

    def run(self, job: Job, into: Path, on_line: Tell, tell: Tell) -> Done:
        self._warn = tell
        guard = Path(board_guard.__file__)
        files = {**job.files, GUARD: guard}
        pieces = {name: cut(file) for name, file in files.items()}
        wanted = [piece for each in pieces.values() for piece in each]
        self.put(wanted, tell)
        folder = f"{self.root()}/run-{os.urandom(6).hex()}"
        links = " && ".join(_assemble(name, parts) for name, parts in pieces.items())
        try:
            self.checked(f"umask 077; mkdir -p {folder} && cd {folder} && rm -f * && {links}")
            if job.secrets:
                self._give_secrets(folder, job.secrets)
            words = shlex.join([job.script, *job.arguments])
            start = f"cd {folder} && {self.python} {GUARD} run . {job.seconds} {words}"
            self._need_python(self.steady(lambda: self.shell(start)))
            said = self._follow(folder, job.seconds, on_line)
            names = [f"{folder}/{shlex.quote(name)}" for name in job.results]
            code, *sizes = self.steady(lambda: self._ended(folder, names))
            results = {}
            for name, there, size in zip(job.results, names, sizes, strict=True):
                if size >= 0:
                    self._fetch(there, size, into / name)
                    results[name] = into / name
        finally:
            self._end(folder, [piece.sha256 for piece in wanted])
        return Done(code, said, results, self.sent, self.reconnects)

    def _give_secrets(self, folder: str, secrets: Mapping[str, str]) -> None:
        content = json.dumps(dict(secrets)).encode()
        script = f"umask 077; cat > {folder}/{board_guard.SECRETS}"
        self.steady(lambda: self.shell(script, given=feeding.of_bytes(content)))

    def _follow(self, folder: str, seconds: float, on_line: Tell) -> str:
        seen = bytearray()
        told = 0

        def take(piece: bytes) -> None:
            nonlocal told
            seen.extend(piece)
            while (end := seen.find(b"\n", told)) >= 0:
                on_line(seen[told:end].decode("utf-8", "replace"))
                told = end + 1

        def follow() -> Said:
            script = f"{self.python} {folder}/{GUARD} follow {folder} {len(seen)}"
            return self.shell(script, seconds + ASK_SECONDS, taken=take)

        self.steady(follow)
        return seen.decode("utf-8", "replace")

    def _ended(self, folder: str, names: Sequence[str]) -> list[int]:
        """The job's code, and the size of each result."""
        said = self.shell(f"cat {folder}/code 2>/dev/null || echo 137; {_sizes(names)}")
        return [int(line) for line in said.out.split()]

    def _fetch(self, there: str, size: int, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:

            def fetch() -> Said:
                script = f"tail -c +{file.tell() + 1} {there}"
                return self.shell(script, ASK_SECONDS + size / SLOWEST, taken=file.write)  # type: ignore[arg-type]

            self.steady(fetch)
            came = file.tell()
        if came != size:
            raise StageFailed(
                f"{target.name} came back from {self.device.name} with {came} of {size} bytes",
                hint="does a login there print something? It must not.",
            )

    def _end(self, folder: str, kept: Any) -> None:
        """Stops what still runs, and leaves only the files of this run, for the next one."""
        keep = "|".join(kept)
        script = (
            f"cd {self.root()} || exit; test -f {folder}/pid && ! test -f {folder}/code &&"
            f" kill -9 -$(cat {folder}/pid) 2>/dev/null; rm -rf {folder};"
            ' for r in run-*; do test -d "$r" && exit 0; done;'
            f' for f in files/*; do case "${{f#files/}}" in {keep}) ;; *) rm -f "$f";; esac; done'
        )
        try:
            self.shell(script)
        except (Lost, EdgepipeError):
            self._warn(f"{self.device.name} is gone; its folder stays until the next run")

    def clean(self) -> None:
        self.checked(f"rm -rf {self.root()}")
        self.folder = ""


_SWEEP = (
    'for r in run-*; do test -d "$r" || continue;'
    ' kill -0 "$(cat "$r/pid" 2>/dev/null || echo x)" 2>/dev/null || rm -rf "$r"; done'
)
"""Takes away what a run left that was cut off for good, or that a power cut ended."""


def _drain(
    process: subprocess.Popen[bytes], seconds: float, taken: Callable[[bytes], None] | None
) -> bytes:
    """All that it prints, piece by piece where somebody takes it; ended when it takes too long."""
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    pieces: list[bytes] = []
    try:
        assert process.stdout is not None
        with process.stdout as stream:
            while piece := os.read(stream.fileno(), 1 << 16):
                (taken or pieces.append)(piece)
        process.wait()
    finally:
        timer.cancel()
    if late.is_set():
        raise Lost(f"no answer within {seconds:.0f} s")
    return b"".join(pieces)


def _sizes(names: Sequence[str]) -> str:
    """The shell's words that print the size of each file, -1 where there is none."""
    one = 'if test -f "$f"; then wc -c < "$f"; else echo -1; fi'
    return f"for f in {' '.join(names)}; do {one}; done"


def _assemble(name: str, pieces: Sequence[Piece]) -> str:
    """The shell's words that make a job's file of its pieces."""
    parts = [f"../files/{piece.sha256}" for piece in pieces]
    if len(parts) == 1:
        return f"ln -s {parts[0]} {shlex.quote(name)}"
    return f"cat {' '.join(parts)} > {shlex.quote(name)}"
