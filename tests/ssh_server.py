"""A real OpenSSH server on the loopback for one test, and a proxy that slows and cuts its line."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgepipe.devices import debian_package
from edgepipe.devices.debian_mirror import Package, fetch_all
from edgepipe.errors import EdgepipeError
from edgepipe.settings import cache_root

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
_POOL = "pool/main"
PACKAGES = (
    Package(
        f"{_POOL}/o/openssh/openssh-server_9.2p1-2+deb12u10_amd64.deb",
        "933cd92a2329f9bf26d22660a834ae18ebdbe8df9c6127e4d9fcb098dac9cf72",
        456584,
    ),
    Package(
        f"{_POOL}/t/tcp-wrappers/libwrap0_7.6.q-32_amd64.deb",
        "cbce2669a3ba4d74cfdc52b14f38014893e23d85a33d109a3422c342eefc55f8",
        54936,
    ),
)
"""Debian 12's server and the one library that few machines have."""


def find_sshd() -> list[str]:
    """The system's, else Debian's unpacked into the cache; the test is skipped without either."""
    if SSHD is not None:
        return [SSHD]
    hint = "`apt-get install openssh-server` brings it"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip(f"no sshd here; {hint}")
    folder = cache_root() / "tests" / "sshd"
    sshd = folder / "usr" / "sbin" / "sshd"
    if not sshd.exists():
        try:
            files = fetch_all(PACKAGES, folder.with_name("downloads"))
        except EdgepipeError as error:
            pytest.skip(f"no sshd here, and {error.message}; {hint}")
        aside = folder.with_name(f"sshd-{os.getpid()}")
        for file in files:
            debian_package.unpack(file, aside, lambda name: "/share/" not in name)
        with contextlib.suppress(OSError):  # Another process may have been faster.
            aside.rename(folder)
    libraries = f"LD_LIBRARY_PATH={folder}/usr/lib/x86_64-linux-gnu"
    return ["/usr/bin/env", libraries, str(sshd)]


def _as_root_needs(folder: Path) -> list[str]:
    """A server that root starts wants a user and a folder of its own: seen by it alone."""
    if os.getuid() or (Path("/run/sshd").is_dir() and "sshd:" in Path("/etc/passwd").read_text()):
        return []
    users = folder / "passwd"
    own = "sshd:x:74:65534::/run/sshd:/usr/sbin/nologin\n"
    users.write_text(Path("/etc/passwd").read_text() + own)
    script = f"mount -t tmpfs none /run && mkdir /run/sshd && mount --bind {users} /etc/passwd"
    return ["unshare", "-m", "sh", "-c", f'{script} && exec "$@"', "sh"]


@dataclass
class Server:
    """Key login for this user alone."""

    port: int
    folder: Path
    running: subprocess.Popen[bytes]
    config: Path
    command: list[str] = field(default_factory=list)

    @property
    def key(self) -> Path:
        return self.folder / "user"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known"

    def know(self, *ports: int) -> None:
        """What `ssh` here takes for the keys of these ports."""
        words = " ".join((self.folder / "host.pub").read_text().split()[:2])
        lines = [f"[127.0.0.1]:{port} {words}\n" for port in ports]
        self.known_hosts.write_text("".join(lines))

    def stop(self) -> None:
        """With all of its connections, as when a board loses its power."""
        for pid in _below(self.running.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self.running.kill()
        self.running.wait()


def _below(pid: int) -> list[int]:
    found: list[int] = []
    todo = [pid]
    while todo:
        parent = todo.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                todo.extend(map(int, (task / "children").read_text().split()))
        found.append(parent)
    return found[1:]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def serve(folder: Path, environment: str = "") -> Iterator[Server]:
    """A server with new keys below this folder, and an `ssh` on a PATH of its own that is told
    nothing but what known_hosts file to take."""
    command = find_sshd()
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    shutil.copy(folder / "user.pub", folder / "allowed")
    port = free_port()
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/allowed\nStrictModes no\nPidFile none\n"
        f"PasswordAuthentication no\nPermitRootLogin prohibit-password\n{environment}"
    )
    log = folder / "sshd.log"
    command = [*_as_root_needs(folder), *command]
    running = subprocess.Popen([*command, "-D", "-E", str(log), "-f", str(config)])
    server = Server(port, folder, running, config, command)
    try:
        _await(server, log)
        server.know(port)
        real = shutil.which("ssh")
        (folder / "bin").mkdir()
        program = folder / "bin" / "ssh"
        told = folder / "ssh_config"
        told.write_text(
            f"UserKnownHostsFile {server.known_hosts}\nHost jump\nHostName 127.0.0.1\n"
            f"Port {port}\nIdentityFile {folder}/user\n"
        )
        program.write_text(f'#!/bin/sh\nexec {real} -F {told} "$@"\n')
        program.chmod(0o755)
        yield server
    finally:
        server.stop()


def _await(server: Server, log: Path) -> None:
    for _ in range(200):
        if server.running.poll() is not None:
            said = log.read_text().strip()[:200] if log.exists() else "no word of why"
            pytest.skip(f"sshd doesn't run here: {said}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", server.port)) == 0:
                return
        time.sleep(0.05)
    pytest.skip("sshd did not begin to listen")


class Line:
    """A TCP proxy to a server: slow where it is told a rate, and cut when so many bytes went up."""

    def __init__(self, to: int, rate: float = 0.0, cut_after: int = 0, cuts: int = 1) -> None:
        self.to, self.rate, self.cut_after, self.cuts = to, rate, cut_after, cuts
        self.carried = 0
        self.refused = False
        """Whether the board is gone for good."""
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._done = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.05)
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._done = True
        self._threads[0].join()
        self._listening.close()
        self.cut()
        for each in self._threads:
            each.join()
        for one in self._open:
            one.close()

    def cut(self) -> None:
        """All connections, at once and without a word of farewell."""
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._done:
            try:
                near, _ = self._listening.accept()
            except TimeoutError:
                continue
            if self.refused:
                near.close()
                continue
            near.settimeout(None)
            far = socket.create_connection(("127.0.0.1", self.to))
            with self._lock:
                self._open += [near, far]
            for ends in ((near, far, True), (far, near, False)):
                self._threads.append(threading.Thread(target=self._carry, args=ends, daemon=True))
                self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 14):
                target.sendall(piece)
                if up:
                    self.carried += len(piece)
                    if self.rate:
                        time.sleep(len(piece) / self.rate)
                    if self.cut_after and self.cuts and self.carried >= self.cut_after:
                        self.cuts -= 1
                        self.carried = 0
                        self.cut()
                        return
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
