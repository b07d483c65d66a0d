"""Boards by SSH, with a real server: files, jobs, and lines that are slow, cut and dead."""

from __future__ import annotations

import getpass
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ssh_server import Line, Server, serve

from edgepipe.devices import remote
from edgepipe.devices.board import Board, Done, Job
from edgepipe.devices.inventory import Device
from edgepipe.devices.ssh import SshBoard
from edgepipe.devices.together import Together
from edgepipe.errors import DeviceUnreachable, OptionError, StageFailed, ToolMissing

BOTH_WAYS = """
import hashlib, json, sys
data = open("data.bin", "rb").read()
print("read", len(data), flush=True)
json.dump({"sha": hashlib.sha256(data).hexdigest(), "words": sys.argv[1:]}, open("out.json", "w"))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("ssh")) as running:
        yield running


@pytest.fixture
def there(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The board's folder; ssh is the one that knows the server."""
    monkeypatch.setenv("PATH", f"{server.folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(remote, "PAUSES", (0.1, 0.2, 0.4))
    server.know(server.port)
    return tmp_path / "board folder"


@pytest.fixture
def board(server: Server, there: Path) -> Callable[..., SshBoard]:
    def make(port: int = 0, **others: str) -> SshBoard:
        given = {"key": str(server.key), "python": sys.executable, "folder": str(there), **others}
        return SshBoard(
            Device("pi", "ssh", host="127.0.0.1", user=getpass.getuser(),
                   port=port or server.port, **given)  # type: ignore[arg-type]
        )  # fmt: skip

    return make


def job(folder: Path, script: str, size: int = 1000, **others: object) -> Job:
    (folder / "job.py").write_text(script)
    (folder / "data.bin").write_bytes(os.urandom(size))
    settings: dict[str, object] = {
        "script": "job.py",
        "arguments": ("one word", "-x"),
        "files": {"job.py": folder / "job.py", "data.bin": folder / "data.bin"},
        "results": ("out.json", "absent.json"),
        "seconds": 100.0,
        "secrets": {},
        **others,
    }
    return Job(**settings)  # type: ignore[arg-type]


def go(board: Board, what: Job, folder: Path) -> tuple[Done, list[str]]:
    lines: list[str] = []
    done = board.run(what, folder / "results", lines.append, lambda words: None)
    return done, lines


def alive(pid: str) -> bool:
    """Whether a process runs; what was killed may wait a while to be taken note of."""
    try:
        state = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")


def test_a_job_goes_there_and_its_results_come_back(
    tmp_path: Path, board: Callable[..., SshBoard], there: Path
) -> None:
    what = job(tmp_path, BOTH_WAYS)
    with board() as reached:
        done, lines = go(reached, what, tmp_path)
        assert done.code == 0 and lines == ["read 1000"]
        assert json.loads(done.results["out.json"].read_text())["words"] == ["one word", "-x"]
        assert set(done.results) == {"out.json"}
        assert not list(there.glob("run-*")), "the job's folder stayed"
        sent = done.sent
        done, _ = go(reached, what, tmp_path)
        assert done.sent == sent, "what the board had was sent again"
        (tmp_path / "data.bin").write_bytes(b"other")
        done, _ = go(reached, what, tmp_path)
        assert done.sent == sent + 5
        assert len(list((there / "files").iterdir())) == 3, "what is no longer used stayed"
        reached.clean()
    assert not there.exists()


def test_a_failing_job_tells_its_code_and_its_words(
    tmp_path: Path, board: Callable[..., SshBoard]
) -> None:
    with board() as reached:
        done, _ = go(reached, job(tmp_path, "import sys; sys.exit('no such thing')"), tmp_path)
    assert done.code == 1 and "no such thing" in done.said


def test_a_job_that_takes_too_long_is_ended_there(
    tmp_path: Path, board: Callable[..., SshBoard], there: Path
) -> None:
    script = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid()))\n"
    script += "import time; time.sleep(600)"
    with board() as reached:
        done, _ = go(reached, job(tmp_path, script, seconds=5.0), tmp_path)
    assert done.code == 124
    assert not alive((tmp_path / "pid").read_text())


def test_secrets_reach_the_job_and_nothing_else(
    tmp_path: Path, board: Callable[..., SshBoard], there: Path
) -> None:
    script = """
import json, os, pathlib
seen = [p.read_bytes() for p in pathlib.Path("..").rglob("*") if p.is_file()]
for name in filter(str.isdigit, os.listdir("/proc")):
    try:
        seen.append(open("/proc/%s/cmdline" % name, "rb").read())
    except OSError:
        pass
secret = os.environ["KEY"]
json.dump([secret, sum(secret.encode() in text for text in seen)], open("out.json", "w"))
"""
    with board() as reached:
        what = job(tmp_path, script, secrets={"KEY": "abc" * 20})
        done, _ = go(reached, what, tmp_path)
    assert json.loads(done.results["out.json"].read_text()) == ["abc" * 20, 0]
    assert (there.stat().st_mode & 0o077) == 0, "others may read the board's folder"


def test_a_line_cut_while_sending_goes_on_where_it_was(
    tmp_path: Path, board: Callable[..., SshBoard], server: Server
) -> None:
    with Line(server.port, cut_after=3_000_000, cuts=2) as line:
        server.know(line.port)
        with board(line.port) as reached:
            done, _ = go(reached, job(tmp_path, BOTH_WAYS, size=8_000_000), tmp_path)
    assert done.code == 0 and done.reconnects >= 2
    assert done.sent < 9_000_000, "it was sent again from the beginning"


def test_a_line_cut_while_running_misses_no_word(
    tmp_path: Path, board: Callable[..., SshBoard], server: Server
) -> None:
    script = """
import os, time
for n in range(40):
    print(n, flush=True)
    time.sleep(0.1)
open("out.json", "w").write("{}")
"""
    with Line(server.port) as line:
        server.know(line.port)
        lines: list[str] = []

        def see(words: str) -> None:
            lines.append(words)
            if words in ("5", "20"):
                line.cut()

        with board(line.port) as reached:
            done = reached.run(job(tmp_path, script), tmp_path / "out", see, lambda words: None)
    assert done.code == 0 and lines == [str(n) for n in range(40)]
    assert done.reconnects >= 2 and "out.json" in done.results


def test_a_slow_line_is_waited_for(
    tmp_path: Path, board: Callable[..., SshBoard], server: Server
) -> None:
    with Line(server.port, rate=200_000) as line:
        server.know(line.port)
        with board(line.port) as reached:
            start = time.monotonic()
            done, _ = go(reached, job(tmp_path, BOTH_WAYS, size=600_000), tmp_path)
    assert done.code == 0 and time.monotonic() - start > 2, "the line was not slow"


def test_an_unplugged_board_is_one_clear_error(
    tmp_path: Path, board: Callable[..., SshBoard], server: Server
) -> None:
    with Line(server.port) as line:
        server.know(line.port)

        def unplug(words: str) -> None:
            line.refused = True
            line.cut()

        script = "import time\nprint('on', flush=True)\ntime.sleep(600)"
        with (
            board(line.port) as reached,
            pytest.raises(DeviceUnreachable, match="was lost") as lost,
        ):
            reached.run(job(tmp_path, script), tmp_path / "out", unplug, lambda words: None)
    assert "plugged in" in lost.value.hint


def test_what_an_unplugged_board_kept_is_swept(
    tmp_path: Path, board: Callable[..., SshBoard], there: Path
) -> None:
    left = there / "run-left"
    left.mkdir(parents=True)
    (left / "pid").write_text("999999999")
    with board() as reached:
        go(reached, job(tmp_path, BOTH_WAYS), tmp_path)
    assert not left.exists()


def test_an_unknown_host_key_is_refused_with_its_fingerprint(
    board: Callable[..., SshBoard], server: Server
) -> None:
    server.known_hosts.write_text("")
    with board() as reached, pytest.raises(DeviceUnreachable, match="isn't known here") as caught:
        reached.ask("print(1)")
    assert "SHA256:" in caught.value.message and "`ssh -p" in caught.value.hint
    assert server.known_hosts.read_text() == "", "the key was accepted without being asked"


def test_a_changed_host_key_is_refused(
    board: Callable[..., SshBoard], server: Server, tmp_path: Path
) -> None:
    words = " ".join((server.folder / "user.pub").read_text().split()[:2])
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {words}\n")
    with board() as reached, pytest.raises(DeviceUnreachable, match="another host key") as caught:
        reached.ask("print(1)")
    assert "ssh-keygen -R" in caught.value.hint


def test_a_board_that_lets_nobody_in_or_is_off_is_told(
    board: Callable[..., SshBoard], server: Server
) -> None:
    with board(key=str(server.folder / "host")) as reached:
        with pytest.raises(DeviceUnreachable, match="can't be reached") as caught:
            reached.ask("print(1)")
        assert "ssh-copy-id" in caught.value.hint
    with Line(server.port) as line:
        off = line.port
    with board(off) as reached, pytest.raises(DeviceUnreachable, match="can't be reached"):
        reached.ask("print(1)")
    with pytest.raises(OptionError, match="is not there"):
        board(key="nothing here")


def test_a_board_without_that_python_is_told(board: Callable[..., SshBoard]) -> None:
    with board(python="python9") as reached, pytest.raises(ToolMissing, match="no python9"):
        reached.ask("print(1)")


def test_a_folder_that_cannot_be_made_is_told(
    board: Callable[..., SshBoard], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with board(folder=str(tmp_path / "file" / "below")) as reached:
        with pytest.raises(StageFailed, match="failed there") as caught:
            go(reached, job(tmp_path, BOTH_WAYS), tmp_path)
        assert "--folder" in caught.value.hint


def test_through_a_jump_host(board: Callable[..., SshBoard], server: Server) -> None:
    with board(jump="jump") as reached:
        assert reached.ask("print(6 * 7)").strip() == "42"


def test_all_goes_over_one_connection(board: Callable[..., SshBoard], server: Server) -> None:
    def accepted() -> int:
        return (server.folder / "sshd.log").read_text().count("Accepted publickey")

    before = accepted()
    with board() as reached:
        for number in range(3):
            assert reached.ask(f"print({number})").strip() == str(number)
    assert accepted() - before == 1


def test_an_interrupt_ends_the_job_there_and_leaves_nothing(
    tmp_path: Path, board: Callable[..., SshBoard], there: Path
) -> None:
    script = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    seen: list[str] = []

    def hear(words: str) -> None:
        seen.append(words)
        os.kill(os.getpid(), signal.SIGINT)

    together = Together()

    def act(device: Device) -> None:
        with together.board(device) as reached:
            reached.run(job(tmp_path, script), tmp_path / "out", hear, lambda words: None)

    with board() as known, pytest.raises(KeyboardInterrupt):
        together.each(act, [known.device])
    assert not alive(seen[0]), "the job went on"
    assert not list(there.glob("run-*")), "its folder stayed"
