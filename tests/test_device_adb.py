"""Boards by ADB, through a stand-in for `adb` that runs commands here: no phone was at hand."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from edgepipe.devices import remote
from edgepipe.devices.adb import AdbBoard
from edgepipe.devices.board import Job
from edgepipe.devices.inventory import Device
from edgepipe.errors import DeviceUnreachable, ToolMissing

FAKE_ADB = """#!{python}
# No ADB at all: runs the command here, or fails in adb's own words for some serial numbers.
import os, subprocess, sys
words = sys.argv[1:]
serial = ""
if words[0] == "-s":
    serial, words = words[1], words[2:]
said = {{
    "locked": "adb: device unauthorized.\\nThis adb server's $ADB_VENDOR_KEYS is not set",
    "": "adb: more than one device/emulator",
    "gone": "adb: device 'gone' not found",
}}
if serial in said:
    sys.exit(said[serial])
left = {state!r}
if os.path.exists(left):
    count = int(open(left).read())
    open(left, "w").write(str(count - 1))
    if count == 0:
        sys.exit("adb: device 'flaky' not found")
assert words[:2] == ["shell", "-T"], words
sys.exit(subprocess.run(["sh", "-c", " ".join(words[2:])]).returncode)
"""


@pytest.fixture(autouse=True)
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives the file that counts the commands until the line is lost once."""
    state = tmp_path / "until-lost"
    program = tmp_path / "bin" / "adb"
    program.parent.mkdir()
    program.write_text(FAKE_ADB.format(python=sys.executable, state=str(state)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(remote, "PAUSES", (0.05, 0.05))
    return state


def board(tmp_path: Path, serial: str = "phone") -> AdbBoard:
    folder = str(tmp_path / "there")
    return AdbBoard(Device("phone", "adb", serial=serial, python=sys.executable, folder=folder))


def job(tmp_path: Path) -> Job:
    script = tmp_path / "job.py"
    script.write_text("print('on it', flush=True)\nopen('out.json', 'w').write('[1]')\n")
    return Job("job.py", ("a b",), {"job.py": script}, ("out.json",), 60.0, {})


def test_a_job_runs_and_its_results_come_back(tmp_path: Path) -> None:
    lines: list[str] = []
    with board(tmp_path) as reached:
        done = reached.run(job(tmp_path), tmp_path / "out", lines.append, lambda words: None)
        assert done.code == 0 and lines == ["on it"]
        assert json.loads(done.results["out.json"].read_text()) == [1]
        assert not list((tmp_path / "there").glob("run-*"))
        reached.clean()
    assert not (tmp_path / "there").exists()


def test_a_device_that_is_lost_for_a_moment_is_found_again(tmp_path: Path, adb: Path) -> None:
    for after in range(1, 6):
        adb.write_text(str(after))
        with board(tmp_path) as reached:
            done = reached.run(job(tmp_path), tmp_path / "out", lambda _: None, lambda _: None)
            assert done.code == 0 and done.reconnects == 1


@pytest.mark.parametrize(
    ("serial", "told", "hint"),
    [("locked", "unauthorized", "allow USB debugging"), ("", "more than one", "--adb SERIAL"),
     ("gone", "not found", "plugged in")],
)  # fmt: skip
def test_a_device_out_of_reach_has_its_remedy(
    tmp_path: Path, serial: str, told: str, hint: str
) -> None:
    with board(tmp_path, serial) as reached, pytest.raises(DeviceUnreachable, match=told) as caught:
        reached.ask("print(1)")
    assert hint in caught.value.hint


def test_without_adb_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="adb isn't on the PATH"):
        board(tmp_path)
