"""Runs the compiler on another machine over SSH: copied there, run, copied back, cleaned up."""

from __future__ import annotations

import re
import shlex
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from edgepipe.devices.ssh_words import CONNECT_SECONDS, NO_CONNECTION, options, remedy
from edgepipe.errors import OptionError, StageFailed, ToolMissing
from edgepipe.targets.edgetpu import compiler_process
from edgepipe.targets.edgetpu.compiler import NAME, PROBE_SECONDS, Place
from edgepipe.targets.edgetpu.compiler_process import Said

NOT_FOUND = 127
_HOST = re.compile(r"[\w.:%-]+")
_USER = re.compile(r"[\w.@+-]+")

_ENDED = {
    124: "it hung on the other machine",
    137: "it was killed on the other machine: it hung, or took too much memory",
}
"""How coreutils' timeout ends."""

# One connection for everything. What it makes there goes when it ends, by HUP as well.
_REMOTE = """
d=$(mktemp -d) || exit 1
trap 'rm -rf "$d"' EXIT
trap 'exit 129' HUP INT TERM
cd "$d" && mkdir in out && tar -xf - -C in || exit 1
timeout -k 5 {seconds} {compiler} {arguments} -o out {models} </dev/null >said.log 2>&1
echo $? >code
tar -cf - said.log code out
"""


class OverSsh(Place):
    """A Linux machine with the compiler. Host keys are checked and no password is asked for."""

    def __init__(self, host: str, port: int | None, program: str) -> None:
        self.host = host
        self.port = port
        self.program = program
        self.words = f"on {host}{f', port {port}' if port else ''}, by SSH"

    @staticmethod
    def of(named: str) -> OverSsh:
        try:
            parts = urlsplit(named)
            port = parts.port
        except ValueError as error:
            raise _misnamed(named) from error
        user, host = parts.username or "", parts.hostname or ""
        wrong = parts.password or parts.query or parts.fragment
        dashed = user.startswith("-") or host.startswith("-")
        if wrong or dashed or not _HOST.fullmatch(host) or (user and not _USER.fullmatch(user)):
            raise _misnamed(named)
        program = parts.path if parts.path not in ("", "/") else NAME
        return OverSsh(f"{user}@{host}" if user else host, port, program)

    def ask(self, folder: Path) -> tuple[Said, str]:
        if shutil.which("ssh") is None:
            raise ToolMissing("--compiler ssh://… needs ssh, which isn't on the PATH")
        script = f"uname -sm; {shlex.quote(self.program)} --version"
        said = compiler_process.run(self._command(script), folder / "said.log", PROBE_SECONDS)
        self._refuse_unconnected(said)
        if said.code == NOT_FOUND:
            raise ToolMissing(
                f"{self.host} has no {self.program} on the PATH of commands over SSH",
                hint=f"install it there, or name it: ssh://{self.host}/path/to/{NAME}.",
            )
        return said, ""

    def run(
        self, names: Sequence[str], arguments: Sequence[str], folder: Path, seconds: float
    ) -> Said:
        package, answer = folder / "given.tar", folder / "answer.tar"
        with tarfile.open(package, "w") as tar:
            for name in names:
                tar.add(folder / "in" / name, name)
        script = _REMOTE.format(
            seconds=int(seconds),
            compiler=shlex.quote(self.program),
            arguments=shlex.join(arguments),
            models=shlex.join(f"in/{name}" for name in names),
        )
        said = compiler_process.run(
            self._command(script),
            folder / "ssh.log",
            seconds + 2 * CONNECT_SECONDS,
            given=package,
            answer=answer,
        )
        package.unlink()
        if said.why:
            return said
        self._refuse_unconnected(said)
        return self._unpack(answer, folder, said)

    def _unpack(self, answer: Path, folder: Path, said: Said) -> Said:
        """Only plain files of the folders that are expected, whatever the other side packed."""
        code = None
        try:
            with tarfile.open(answer) as tar:
                for member in tar:
                    place, _, name = member.name.removeprefix("./").rpartition("/")
                    source = tar.extractfile(member) if member.isfile() else None
                    if source is None or name in ("", "..") or place not in ("", "out"):
                        continue
                    if (place, name) == ("", "code"):
                        code = int(source.read(16))
                    elif place == "out" or name == "said.log":
                        with (folder / place / name).open("wb") as file:
                            shutil.copyfileobj(source, file)
        except (tarfile.TarError, ValueError, OSError, EOFError) as error:
            raise self._garbled(said) from error
        finally:
            answer.unlink(missing_ok=True)
        if code is None:
            raise self._garbled(said)
        why = _ENDED.get(code, "")
        return Said(code, compiler_process.read(folder / "said.log"), said.seconds, why)

    def _command(self, script: str) -> list[str]:
        port = ["-p", str(self.port)] if self.port else []
        return [
            "ssh", *options(), *port, "--", self.host, f"sh -c {shlex.quote(script)}",
        ]  # fmt: skip

    def _refuse_unconnected(self, said: Said) -> None:
        if not said.why and said.code != NO_CONNECTION:
            return
        told = said.why or " ".join(said.text.split())[-300:]
        raise ToolMissing(
            f"{self.host} can't be reached by SSH: {told}", hint=remedy(told, self.host)
        )

    def _garbled(self, said: Said) -> StageFailed:
        told = " ".join(said.text.split())[-300:] or "no word of why"
        return StageFailed(
            f"{self.host} sent back no results: {told}",
            hint="it needs sh, tar, mktemp and timeout, and a login that prints nothing.",
            type="OSError",
        )


def _misnamed(named: str) -> OptionError:
    return OptionError(
        f"--compiler ssh://user@host[:port][/path/of/the/compiler], received {named!r}",
        hint="no password: keys and ~/.ssh/config are used as ssh uses them.",
    )
