"""A run's context: scratch that goes, also after a kill, logs kept to a number, one of each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepipe.session import LOGS_KEPT, Session
from edgepipe.store import Store

HOLD = """
import sys
from edgepipe.session import Session
from edgepipe.store import Store
with Store() as store, Session(store) as session:
    (session.folder / "large").write_bytes(b"x" * 1000)
    print(session.folder, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in this process and in those that it starts."""
    monkeypatch.setenv("EDGEPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEPIPE_STORE", raising=False)
    return tmp_path / "cache"


def hold() -> tuple[subprocess.Popen[str], Path]:
    """Another process with a session, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=20)


def at_once(count: int, call: Callable[[], Any]) -> list[Any]:
    found: list[Any] = []
    ready = threading.Barrier(count)

    def one() -> None:
        ready.wait()
        found.append(call())

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_session_that_needs_nothing_makes_nothing(cache: Path) -> None:
    with Store() as store, Session(store) as session:
        assert session.workers_started == 0
        assert session.isolated is None
    assert not (cache / "runs").exists()
    assert not (cache / "logs").exists()


def test_scratch_goes_at_the_end_also_after_an_error(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Store() as store, Session(store) as session:
        (session.folder / "deep").mkdir()
        assert session.folder.parent == cache / "runs"
        raise KeyboardInterrupt
    assert list((cache / "runs").iterdir()) == []


def test_scratch_of_a_running_process_is_left_alone(cache: Path) -> None:
    process, folder = hold()
    with Store() as store, Session(store) as session:
        assert session.folder != folder
        assert (folder / "large").exists()
    end(process)
    assert list((cache / "runs").iterdir()) == []


def test_scratch_of_a_killed_process_is_swept_by_the_next_run(cache: Path) -> None:
    process, folder = hold()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    (cache / "runs" / "killed-before-its-lock").mkdir()
    assert (folder / "large").exists()
    with Store() as store, Session(store) as session:
        mine = session.folder
        assert list((cache / "runs").iterdir()) == [mine]


def test_runs_that_start_at_once_do_not_sweep_each_other(cache: Path) -> None:
    with Store() as store:
        sessions = [Session(store) for _ in range(24)]
        turns = iter(sessions)
        folders = at_once(24, lambda: next(turns).folder)
        assert all((folder / "lock").exists() for folder in folders)
        assert len(set(folders)) == 24
        for session in sessions:
            session.__exit__(None, None, None)
    assert list((cache / "runs").iterdir()) == []


def test_routes_that_run_at_once_share_one_set_of_workers(cache: Path) -> None:
    with Store() as store, Session(store) as session:
        assert len({id(workers) for workers in at_once(16, lambda: session.workers)}) == 1


def test_every_log_is_a_file_of_its_own(cache: Path) -> None:
    with Store() as store, Session(store) as session:
        logs = [log for part in at_once(8, lambda: [session.log("infer")] * 1) for log in part]
        logs += [session.log("infer"), session.log("describe")]
    assert len(set(logs)) == 10
    assert {log.parent for log in logs} == {logs[0].parent}
    assert logs[-1].name == "10-describe.log"
    assert logs[0].parent.exists(), "logs outlive the run"


def test_logs_of_old_runs_go_and_the_last_runs_keep_theirs(cache: Path) -> None:
    for number in range(LOGS_KEPT + 5):
        (cache / "logs" / f"20200101T0000{number:02}-1-0").mkdir(parents=True)
    with Store() as store, Session(store) as session:
        session.log("x").write_text("new")
    kept = sorted(each.name for each in (cache / "logs").iterdir())
    assert len(kept) == LOGS_KEPT
    assert kept[0].startswith("20200101T000006"), "the oldest go first"
    assert not kept[-1].startswith("2020")


def test_logs_that_a_recent_report_cites_stay(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepipe.session.MOST_LOGS", LOGS_KEPT + 3)
    with Store() as store:
        for number in range(LOGS_KEPT + 5):
            with Session(store) as session:
                session.log("x").write_text(str(number))
    kept = {int(path.read_text()) for path in (cache / "logs").glob("*/01-x.log")}
    assert kept == set(range(2, LOGS_KEPT + 5)), "more than the last ones, up to a bound"
