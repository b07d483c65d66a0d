"""The emulated Arm: made once, gone on with after a cut download, and run like any board."""

from __future__ import annotations

import hashlib
import http.server
import io
import lzma
import platform
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from edgepipe.devices import debian_mirror, debian_package, emulated_machine
from edgepipe.devices.board import Job, open_board
from edgepipe.devices.debian_mirror import Package
from edgepipe.devices.examination import examine
from edgepipe.devices.inventory import Device
from edgepipe.errors import EdgepipeError, ToolchainFailed, UnknownName


@pytest.fixture(scope="session")
def arm() -> Device:
    """Made in the user's cache, once; skipped where no mirror or index can be reached."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("emulated here on Linux on x86_64 only")
    try:
        emulated_machine.make(emulated_machine.spec("aarch64"))
    except EdgepipeError as error:
        pytest.skip(f"{error.message}; {error.hint}")
    return Device("pi", "emulated", machine="aarch64")


def test_an_emulated_board_has_all_that_it_needs(arm: Device) -> None:
    found = examine(arm)
    assert found.ready, (found.problem, found.lacks)
    assert found.facts["machine"] == "aarch64" and "ai_edge_litert" in found.facts["runtimes"]


def test_a_job_runs_on_it(arm: Device, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("""
import os, platform, sys
print(platform.machine(), sys.argv[1], flush=True)
open("out.txt", "w").write(open("/proc/cpuinfo").read() + os.environ["WORD"])
sys.exit(5)
""")
    lines: list[str] = []
    job = Job("job.py", ("a b",), {"job.py": script}, ("out.txt",), 100.0, {"WORD": "secret"})
    with open_board(arm) as board:
        done = board.run(job, tmp_path / "out", lines.append, lambda words: None)
    assert (done.code, lines) == (5, ["aarch64 a b"])
    text = done.results["out.txt"].read_text()
    assert "0xd0b" in text and text.endswith("secret"), "a Cortex-A76 sees its own /proc/cpuinfo"


def test_another_core_can_be_asked_for(arm: Device) -> None:
    with open_board(Device("pi", "emulated", machine="aarch64", cpu="cortex-a53")) as board:
        said = board.ask("print(open('/proc/cpuinfo').read())")
    assert "0xd03" in said
    with pytest.raises(UnknownName, match="unknown processor"):
        open_board(Device("pi", "emulated", machine="aarch64", cpu="max")).ask("")


def test_a_job_that_hangs_is_ended(arm: Device, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("import time\ntime.sleep(600)")
    with open_board(arm) as board:
        job = Job("job.py", (), {"job.py": script}, (), 2.0, {})
        assert board.run(job, tmp_path, print, print).code == 124


@pytest.mark.parametrize("name", emulated_machine.known())
def test_the_locks_say_what_the_tables_ask_for(name: str) -> None:
    machine = emulated_machine.spec(name)
    assert machine.cpu in machine.cpus and "max" not in machine.cpus
    assert all(len(package.sha256) == 64 and package.size for package in machine.packages)
    assert all("==" in wheel and "--hash=sha256:" in wheel for wheel in machine.wheels)
    names = {package.name.split("_")[0] for package in machine.packages}
    assert {"libc6", "python3.11-minimal"} <= names


# Debian's packages


def deb(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """A real .deb, as dpkg-deb lays it out, but for the control file's content."""

    def tar(entries: dict[str, bytes]) -> bytes:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            for name, content in entries.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o755
                archive.addfile(info, io.BytesIO(content))
            for name, target in (links or {}).items():
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, target
                archive.addfile(info)
        return lzma.compress(made.getvalue())

    members = {"debian-binary": b"2.0\n", "control.tar.xz": tar({}), "data.tar.xz": tar(files)}
    content = b"!<arch>\n"
    for name, body in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n"
        content += header.encode() + body + b"\n" * (len(body) % 2)
    path.write_bytes(content)
    return path


def test_a_package_is_unpacked_without_what_is_not_wanted(tmp_path: Path) -> None:
    files = {"./usr/bin/tool": b"tool", "./usr/share/doc/tool/copyright": b"words"}
    made = deb(tmp_path / "a.deb", files, {"./usr/bin/link": "tool"})
    debian_package.unpack(made, tmp_path / "root", lambda name: "/doc/" not in name)
    assert (tmp_path / "root/usr/bin/link").read_bytes() == b"tool"
    assert not (tmp_path / "root/usr/share").exists()
    debian_package.take_out(made, {"usr/bin/tool": tmp_path / "taken"})
    assert (tmp_path / "taken").stat().st_mode & 0o100


def test_a_package_that_reaches_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    made = deb(tmp_path / "a.deb", {"../outside": b""})
    with pytest.raises(ToolchainFailed, match="outside"):
        debian_package.unpack(made, tmp_path / "root", lambda name: True)
    (tmp_path / "no.deb").write_bytes(b"something else")
    with pytest.raises(ToolchainFailed, match="no Debian package"):
        debian_package.unpack(tmp_path / "no.deb", tmp_path / "root", lambda name: True)


# The mirror

BODY = bytes(range(256)) * 400


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves one file, with ranges; hangs up in the middle as often as it is told."""

    asked: ClassVar[list[str | None]] = []
    cuts: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        if self.path != "/pool/a.deb":
            self.send_error(404)
            return
        asked = self.headers["Range"]
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        end = self.cuts.pop() if self.cuts else len(BODY)
        self.wfile.write(BODY[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Mirror]]:
    Mirror.asked.clear()
    Mirror.cuts.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv(debian_mirror.VARIABLE, address + "/")
        yield Mirror
        server.shutdown()


def package(digest: str = "") -> Package:
    return Package("pool/a.deb", digest or hashlib.sha256(BODY).hexdigest(), len(BODY))


def test_a_cut_download_is_gone_on_with(tmp_path: Path, mirror: type[Mirror]) -> None:
    mirror.cuts[:] = [70_000, 40_000]
    (made,) = debian_mirror.fetch_all([package()], tmp_path)
    assert made.read_bytes() == BODY
    assert mirror.asked == [None, "bytes=40000-", "bytes=70000-"]
    debian_mirror.fetch_all([package()], tmp_path)
    assert len(mirror.asked) == 3, "what is whole was asked for again"


def test_what_is_not_what_is_pinned_is_refused(tmp_path: Path, mirror: type[Mirror]) -> None:
    with pytest.raises(ToolchainFailed, match="another sha256"):
        debian_mirror.fetch_all([package("0" * 64)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_without_the_file_is_told_without_its_password(
    tmp_path: Path, mirror: type[Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Package("pool/b.deb", "0" * 64, 1)
    with pytest.raises(ToolchainFailed, match="Not Found") as caught:
        debian_mirror.fetch_all([other], tmp_path)
    assert debian_mirror.VARIABLE in caught.value.hint
    monkeypatch.setenv(debian_mirror.VARIABLE, "http://me:secret@127.0.0.1:1/debian")
    with pytest.raises(ToolchainFailed) as caught:
        debian_mirror.fetch_all([other], tmp_path)
    assert "secret" not in caught.value.message


def test_apt_says_where_the_mirror_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(debian_mirror.VARIABLE, raising=False)
    monkeypatch.setattr(debian_mirror, "APT", tmp_path)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old/debian x main\ndeb [arch=amd64] http://one/debian/ bookworm main\n"
        "deb http://one/debian-security bookworm-security main\ndeb cdrom:[x]/ bookworm main\n"
    )
    (tmp_path / "sources.list.d" / "b.sources").write_text(
        "Types: deb\nURIs: https://two/packages\nSuites: x\nComponents: main contrib\n\n"
        "URIs: https://three/other\nComponents: nonfree\n"
    )
    assert debian_mirror.mirrors() == ["http://one/debian", "https://two/packages"]
    (tmp_path / "sources.list").unlink()
    (tmp_path / "sources.list.d" / "b.sources").unlink()
    with pytest.raises(ToolchainFailed, match="found none"):
        debian_mirror.fetch_all([package()], tmp_path)
