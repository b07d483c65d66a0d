"""Workers, for real: what comes back, how each death is told, what is left after a kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepipe import interpreter as interpreters
from edgepipe import sandbox
from edgepipe.errors import (
    EdgepipeError,
    InternalError,
    StageCrashed,
    StageFailed,
    StageOutOfMemory,
    StageTimedOut,
    ToolchainMissing,
    UserCodeError,
)
from edgepipe.interpreter import Interpreter
from edgepipe.post_mortem import Limits
from edgepipe.sandbox import Answer, Workers

HERE = Path(__file__).parent
JOBS = "jobs_for_workers"
Call = Callable[..., Answer]


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> Interpreter:
    """This interpreter as a toolchain, with the jobs of the tests on its path."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    return interpreters.current("tests")


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with Workers(tmp_path / "run", Limits(seconds=30)) as started:
        yield started


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "job.log"


@pytest.fixture
def call(workers: Workers, python: Interpreter, log: Path) -> Call:
    def run(job: str, **arguments: Any) -> Answer:
        return workers.call(python, f"{JOBS}:{job}", arguments, log)

    return run


def exists(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone_within(seconds: float, *pids: int) -> bool:
    deadline = time.monotonic() + seconds
    while any(exists(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# What comes back


def test_returns_what_the_job_returned(call: Call) -> None:
    value = {"text": "ä\n\ud800", "numbers": [1, 2.5, None], "large": "x" * 300_000}
    answer = call("echo", value=value)
    assert answer.value == value
    assert 0 < answer.seconds < 30
    assert answer.peak > 1 << 20


def test_our_error_arrives_as_it_was_raised(call: Call, log: Path) -> None:
    with pytest.raises(UserCodeError, match="the factory raised") as caught:
        call("raise_ours")
    assert caught.value.hint == "look at it"
    assert caught.value.details["path"] == "model.py"
    assert "raise_ours" in caught.value.details["traceback"]
    assert caught.value.details["log"] == str(log)
    assert "raise_ours" in log.read_text()


@pytest.mark.parametrize(
    ("job", "arguments", "words"),
    [
        ("raise_theirs", {}, "LookupError: no such op"),
        ("raise_no_exception", {}, "KeyboardInterrupt: a panic"),
        ("leave", {"code": 3}, "SystemExit: 3"),
        ("read_input", {}, "EOFError"),
        ("give_no_json", {}, r"the job returned \{1, 2\}, which is no JSON"),
    ],
)
def test_failure_of_a_job_leaves_the_worker_alive(
    call: Call, log: Path, job: str, arguments: dict[str, Any], words: str
) -> None:
    before = call("about").value["pid"]
    with pytest.raises(StageFailed, match=words) as caught:
        call(job, **arguments)
    assert caught.value.details["log"] == str(log)
    assert caught.value.details["tail"] or job == "give_no_json"
    assert caught.value.details["peak"] > 0
    assert call("about").value["pid"] == before


def test_long_message_is_cut_and_whole_in_the_log(call: Call, log: Path) -> None:
    with pytest.raises(StageFailed, match="characters in the log") as caught:
        call("raise_theirs", size=5000)
    assert len(caught.value.message) < 700
    assert "." * 5000 in log.read_text()


def test_job_may_close_its_streams(call: Call) -> None:
    assert call("close_streams").value == "done"
    assert call("echo", value=1).value == 1


def test_everything_printed_is_in_the_log_of_its_job(
    workers: Workers, python: Interpreter, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for word in ("first", "second"):
        workers.call(python, f"{JOBS}:talk", {"words": word}, tmp_path / f"{word}.log")
    for word in ("first", "second"):
        lines = (tmp_path / f"{word}.log").read_text().splitlines()
        expected = [f"{word} {where}" for where in ("aloud", "in C", "in Python", "in a child")]
        assert sorted(lines) == expected
    assert capfd.readouterr() == ("", "")


# How each death is told


@pytest.mark.parametrize(
    ("job", "arguments", "words"),
    [
        ("segfault", {}, r"a segmentation fault \(SIGSEGV\)"),
        ("abort", {}, r"an abort \(SIGABRT\)"),
        ("leave_at_once", {"code": 7}, "exit code 7"),
        ("kill_self", {"number": int(signal.SIGTERM)}, r"a signal \(SIGTERM\)"),
        ("kill_self", {"number": int(signal.SIGRTMIN) + 1}, r"a signal \(signal \d+\)"),
    ],
)
def test_crash_is_named_and_ends_only_its_job(
    call: Call, job: str, arguments: dict[str, Any], words: str
) -> None:
    before = call("about").value["pid"]
    with pytest.raises(StageCrashed, match=words):
        call(job, **arguments)
    assert call("about").value["pid"] != before


def test_last_words_before_a_crash_are_kept(call: Call, log: Path) -> None:
    with pytest.raises(StageCrashed) as caught:
        call("talk_and_crash", words="op 17 of 20")
    assert caught.value.details["tail"] == ["op 17 of 20 in Python", "op 17 of 20 in C"]
    assert str(log) in caught.value.hint


def test_crash_is_seen_while_a_forked_child_holds_the_pipes(call: Call) -> None:
    start = time.monotonic()
    with pytest.raises(StageCrashed, match="SIGSEGV"):
        call("fork_and_segfault")
    assert time.monotonic() - start < 10


def test_time_limit_ends_the_job_soon_after(tmp_path: Path, python: Interpreter, log: Path) -> None:
    with Workers(tmp_path / "run", Limits(seconds=1.5)) as workers:
        workers.call(python, f"{JOBS}:echo", {"value": 0}, log)
        start = time.monotonic()
        with pytest.raises(StageTimedOut, match=r"time limit of 1\.5 s") as caught:
            workers.call(python, f"{JOBS}:hang", {}, log)
        assert 1.5 <= time.monotonic() - start < 2.5
    assert "--stage-timeout" in caught.value.hint


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched through /proc")
def test_memory_limit_ends_the_job_with_its_peak(
    tmp_path: Path, python: Interpreter, log: Path
) -> None:
    limit = 200 << 20
    with (
        Workers(tmp_path / "run", Limits(seconds=30, memory=limit)) as workers,
        pytest.raises(StageOutOfMemory, match=r"memory limit of 200\.0 MiB \(peak ") as caught,
    ):
        workers.call(python, f"{JOBS}:grow", {"megabytes": 600}, log)
    assert limit < caught.value.details["peak"] < 2 * limit


def test_memory_error_is_told_as_such_and_ends_no_worker(call: Call) -> None:
    before = call("about").value["pid"]
    with pytest.raises(StageOutOfMemory):
        call("ask_too_much")
    assert call("about").value["pid"] == before


def test_python_that_is_no_worker_says_its_last_words(
    workers: Workers, tmp_path: Path, log: Path
) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho libpython3.so is missing >&2\nexit 127\n")
    fake.chmod(0o755)
    broken = Interpreter.of("tests", fake, "named", "3.12.0", {})
    with pytest.raises(StageCrashed, match=r"exit code 127: libpython3\.so is missing") as caught:
        workers.call(broken, f"{JOBS}:echo", {"value": 0}, log)
    assert str(fake) in caught.value.message


def test_python_that_is_not_there_is_a_missing_toolchain(
    workers: Workers, tmp_path: Path, log: Path
) -> None:
    absent = Interpreter.of("tests", tmp_path / "no-python", "made", "3.12.0", {})
    before = open_files()
    with pytest.raises(ToolchainMissing, match="No such file"):
        workers.call(absent, f"{JOBS}:echo", {"value": 0}, log)
    assert open_files() == before


# What surrounds a job


def test_worker_finds_edgepipe_and_nothing_else_of_its_folder(call: Call) -> None:
    about = call("about").value
    assert {"edgepipe", "edgepipe.converters"} <= set(about["modules"])
    assert not any(Path(folder).name == "edgepipe" for folder in about["path"])


def test_made_toolchain_ignores_the_users_python_path(
    workers: Workers, python: Interpreter, log: Path
) -> None:
    made = Interpreter.of("tests", python.python, "made", python.version, python.versions)
    with pytest.raises(StageFailed, match="ModuleNotFoundError"):
        workers.call(made, f"{JOBS}:about", {}, log)


def test_order_of_sets_is_the_same_in_every_worker(
    python: Interpreter, tmp_path: Path, log: Path
) -> None:
    seen = set()
    for how in ("current", "made"):
        like = Interpreter.of(how, python.python, how, python.version, {})
        with Workers(tmp_path / how) as workers:
            statement = "print(hash('edgepipe'))"
            workers.call(like, "timeit:timeit", {"stmt": statement, "number": 1}, log)
    seen = set(log.read_text().split())
    assert len(log.read_text().split()) == 2
    assert len(seen) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process cut its network")
def test_network_is_cut_but_for_the_loopback_inside(call: Call, workers: Workers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        outside = call("connect", host="127.0.0.1", port=server.getsockname()[1]).value
    if not workers.network_cut:
        pytest.skip("this kernel lets no such process into a network namespace")
    assert outside == "ConnectionRefusedError"
    assert call("connect", host="192.0.2.1", port=80).value == "OSError"
    assert call("talk_to_self").value == "connected"


AS_NOBODY = """
import sys
code = {"__name__": "worker"}
exec(compile(open(0).read(), "worker.py", "exec"), code)
print(code["cut_network"](), code["os"].getuid())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="becomes another user: run as root"
)
def test_user_without_rights_is_cut_off_too_and_stays_who_he_is() -> None:
    candidates = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")
    source = (HERE.parent / "edgepipe" / "worker.py").read_text()
    for python in candidates:
        try:
            done = subprocess.run(
                [python, "-I", "-c", AS_NOBODY], cwd="/", user=65534, group=65534, extra_groups=[],
                input=source, capture_output=True, text=True,
            )  # fmt: skip
        except OSError:  # A Python below root's home is out of his reach.
            continue
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() in (["True", "65534"], ["False", "65534"])
        if done.stdout.startswith("False"):
            pytest.skip("this kernel lets no user without rights into a network namespace")
        return
    pytest.skip("there is no Python that another user can run")


def test_temporary_folder_is_its_own_and_goes_with_it(
    workers: Workers, call: Call, tmp_path: Path
) -> None:
    left = Path(call("write_temporary").value)
    assert tmp_path / "run" in left.parents
    assert left.exists()
    workers.close()
    assert not left.exists()


# Workers of a run


def test_worker_is_reused_within_a_toolchain_only(
    workers: Workers, python: Interpreter, call: Call, log: Path
) -> None:
    other = Interpreter.of("other", python.python, "current", python.version, {})
    first, second = call("about").value["pid"], call("about").value["pid"]
    assert first == second
    assert workers.call(other, f"{JOBS}:about", {}, log).value["pid"] != first
    assert workers.started == 2


def test_two_jobs_at_once_get_two_workers(call: Call, workers: Workers) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda number=number: found.append(call("echo", value=number)))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.value for answer in found) == [0, 1, 2, 3]
    assert 1 <= workers.started <= 4


def test_warm_worker_takes_the_next_job(
    workers: Workers, python: Interpreter, call: Call, log: Path
) -> None:
    workers.warm(python, ("colorsys",))
    workers.warm(python, ("colorsys",))
    call("about")
    assert workers.started == 1


def test_failed_warming_harms_no_job(workers: Workers, python: Interpreter, call: Call) -> None:
    workers.warm(python, ("no_such_module",))
    assert call("echo", value=1).value == 1
    assert workers.started == 1


def test_closed_workers_take_no_job(workers: Workers, python: Interpreter, call: Call) -> None:
    workers.close()
    workers.warm(python, ())
    with pytest.raises(InternalError, match="closed"):
        call("echo", value=1)


def test_closing_ends_a_job_that_another_thread_waits_for(call: Call, workers: Workers) -> None:
    call("echo", value=0)
    raised: list[EdgepipeError] = []

    def wait() -> None:
        try:
            call("hang")
        except EdgepipeError as error:
            raised.append(error)

    before = open_files()
    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    workers.close()
    thread.join(5)
    assert [type(error) for error in raised] == [StageCrashed]
    assert open_files() < before


def test_no_descriptor_is_left_open(tmp_path: Path, python: Interpreter, log: Path) -> None:
    before = open_files()
    for number in range(3):
        with Workers(tmp_path / f"run{number}") as workers:
            workers.call(python, f"{JOBS}:echo", {"value": 0}, log)
            with pytest.raises(StageCrashed):
                workers.call(python, f"{JOBS}:segfault", {}, log)
            workers.warm(python, ())
    assert open_files() == before


# What is left after a kill


def test_closing_kills_what_a_job_left_running(call: Call, workers: Workers) -> None:
    sleeper = call("start_sleeper").value
    assert exists(sleeper)
    workers.close()
    assert gone_within(2, sleeper)


def test_worker_given_back_while_all_are_closed_is_closed_once(
    workers: Workers, python: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread closes its pipes; closed twice, they would be those of somebody else by then."""
    before = open_files()
    idle, busy = workers._take(python), workers._take(python)
    assert idle is not None and busy is not None
    workers._give_back(idle)
    let_go = sandbox._let_go

    def and_the_other_ends(child: Any) -> None:
        let_go(child)
        if child is idle:
            workers._give_back(busy)

    monkeypatch.setattr(sandbox, "_let_go", and_the_other_ends)
    workers.close()
    assert open_files() == before


def test_crash_takes_what_the_job_started_with_it(call: Call) -> None:
    sleeper = call("start_sleeper").value
    with pytest.raises(StageCrashed):
        call("segfault")
    assert gone_within(2, sleeper)


PARENT = """
import sys
from pathlib import Path
from edgepipe import interpreter
from edgepipe.sandbox import Workers
folder = Path(sys.argv[1])
workers = Workers(folder / "run")
python = interpreter.current("tests")
workers.call(python, sys.argv[2], {"marker": sys.argv[3]}, folder / "log")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal on a pipe is Linux's")
def test_killed_parent_takes_everything_with_it(tmp_path: Path, python: Interpreter) -> None:
    """Even when the worker is deep in C code that holds the GIL, and has a child of its own."""
    marker = tmp_path / "marker"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), f"{JOBS}:hold_everything", str(marker)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    deadline = time.monotonic() + 20
    while not (marker.exists() and marker.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(pid) for pid in marker.read_text().split()]
    time.sleep(0.2)
    assert all(exists(pid) for pid in pids)
    parent.kill()
    parent.wait()
    assert gone_within(2, *pids)
