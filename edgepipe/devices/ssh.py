"""A board by the system's own ssh: its keys, agent, ssh_config and known hosts, as they are."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgepipe.devices.inventory import Device
from edgepipe.devices.remote import RemoteBoard, Said
from edgepipe.devices.sending import Lost
from edgepipe.devices.ssh_words import CONNECT_SECONDS, NO_CONNECTION, options, remedy
from edgepipe.errors import DeviceUnreachable, OptionError, ToolMissing

_UNKNOWN = re.compile(r"host key verification failed|no .* host key is known", re.I)
_CHANGED = re.compile(r"IDENTIFICATION HAS CHANGED")
_FOREVER = re.compile(r"permission denied|could not resolve hostname|bad configuration", re.I)
_SEEN_KEY = re.compile(r"Server host key: (\S+) (SHA256:\S+)")


class SshBoard(RemoteBoard):
    """One connection for all commands, opened by the first and closed at the end."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        if shutil.which("ssh") is None:
            raise ToolMissing(
                f"{device.name} is reached by SSH, and ssh isn't on the PATH",
                hint="install an OpenSSH client.",
            )
        if device.key and not Path(device.key).expanduser().is_file():
            raise OptionError(f"the key of {device.name}, {device.key!r}, is not there")
        # Short: a socket's path may have 104 characters, and ssh adds some of its own.
        self._sockets = tempfile.mkdtemp(prefix="ep-ssh-")
        self._connected = False

    def command(self, script: str) -> list[str]:
        return [*self._start(), "--", self._target(), f"sh -c {shlex.quote(script)}"]

    def _start(self) -> list[str]:
        device = self.device
        words = ["ssh", *options()]
        words += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4"]
        words += ["-o", "ControlMaster=auto", "-o", "ControlPersist=60"]
        words += ["-o", f"ControlPath={self._sockets}/%C"]
        if device.port:
            words += ["-p", str(device.port)]
        if device.key:
            words += ["-i", str(Path(device.key).expanduser()), "-o", "IdentitiesOnly=yes"]
        if device.jump:
            words += ["-J", device.jump]
        return words

    def _target(self) -> str:
        return f"{self.device.user}@{self.device.host}" if self.device.user else self.device.host

    def judge(self, said: Said) -> None:
        if said.code != NO_CONNECTION:
            self._connected = True
            return
        told = " ".join(said.errors.split())[-300:] or "ssh gave no reason"
        if _CHANGED.search(said.errors):
            raise DeviceUnreachable(
                f"{self.device.name} shows another host key than the one that is known here"
                f"{self._fingerprint()}",
                hint="either the board was set up anew, or something stands between: compare the"
                " fingerprint on the board itself (`ssh-keygen -lf"
                " /etc/ssh/ssh_host_ed25519_key.pub`), then forget the old key with"
                f" `ssh-keygen -R {self._known_as()}`.",
            )
        if _UNKNOWN.search(said.errors):
            raise DeviceUnreachable(
                f"the host key of {self.device.name} isn't known here{self._fingerprint()}",
                hint="compare it with what the board itself says (`ssh-keygen -lf"
                " /etc/ssh/ssh_host_ed25519_key.pub`), then accept it once by hand:"
                f" `{self._by_hand()}`.",
            )
        if _FOREVER.search(said.errors) or not self._connected:
            raise DeviceUnreachable(
                f"{self.device.name} ({self.device.words}) can't be reached: {told}",
                hint=remedy(told, self._target()),
            )
        raise Lost(told)

    def _fingerprint(self) -> str:
        """What the board shows; ssh itself tells it when it is asked to say more."""
        start = [*self._start(), "-v", "-o", "ControlPath=none", "--", self._target(), "true"]
        try:
            said = subprocess.run(
                start, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=CONNECT_SECONDS * 2,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ""
        seen = _SEEN_KEY.findall(said.stderr)
        return f": {seen[-1][0]}, {seen[-1][1]}" if seen else ""

    def _known_as(self) -> str:
        port = self.device.port
        return f"'[{self.device.host}]:{port}'" if port else self.device.host

    def _by_hand(self) -> str:
        port = f"-p {self.device.port} " if self.device.port else ""
        jump = f"-J {self.device.jump} " if self.device.jump else ""
        return f"ssh {port}{jump}{self._target()}"

    def close(self) -> None:
        if self._connected:
            ended = [*self._start(), "-O", "exit", "--", self._target()]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    ended, stdin=subprocess.DEVNULL, capture_output=True, timeout=CONNECT_SECONDS
                )
        shutil.rmtree(self._sockets, ignore_errors=True)
