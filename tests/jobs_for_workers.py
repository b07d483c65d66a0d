"""Jobs that the tests of the sandbox send to real workers: they answer, raise, hang and crash."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgepipe.errors import UserCodeError


def echo(value: Any) -> Any:
    return value


def about() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "temporary": tempfile.gettempdir(),
        "hash": hash("edgepipe"),
        "path": sys.path,
        "modules": sorted(name for name in sys.modules if name.startswith("edgepipe")),
    }


def write_temporary() -> str:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"left behind")
    return file.name


def talk(words: str) -> None:
    print(f"{words} in Python")  # noqa: T201 - what frameworks do
    ctypes.CDLL(None).printf(f"{words} in C\n".encode())
    subprocess.run(["sh", "-c", f"echo {words} in a child; echo {words} aloud >&2"], check=True)


def talk_and_crash(words: str) -> None:
    print(f"{words} in Python")  # noqa: T201 - what frameworks do
    ctypes.CDLL(None).printf(f"{words} in C\n".encode())
    ctypes.string_at(0)


def read_input() -> str:
    return input()


def raise_ours() -> None:
    raise UserCodeError("the factory raised", hint="look at it", path=Path("model.py"))


def raise_theirs(size: int = 0) -> None:
    raise LookupError("no such op" + "." * size)


def raise_no_exception() -> None:
    raise KeyboardInterrupt("a panic in Rust arrives like this")


def leave(code: int) -> None:
    sys.exit(code)


def close_streams() -> str:
    sys.stdout.close()
    sys.stderr = None
    return "done"


def give_no_json() -> object:
    return {1, 2}


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def leave_at_once(code: int) -> None:
    os._exit(code)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def fork_and_segfault() -> None:
    """What is forked keeps every pipe of the worker open."""
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    ctypes.string_at(0)


def hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def grow(megabytes: int) -> None:
    held = []
    for _ in range(megabytes // 10):
        held.append(b"\1" * (10 << 20))
        time.sleep(0.02)
    time.sleep(60)


def ask_too_much() -> None:
    bytearray(1 << 60)


def connect(host: str, port: int) -> str:
    try:
        with socket.create_connection((host, port), timeout=5):
            return "connected"
    except OSError as error:
        return type(error).__name__


def talk_to_self() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return connect(*server.getsockname())


def start_sleeper() -> int:
    return subprocess.Popen(["sleep", "60"]).pid


def hold_everything(marker: str) -> None:
    """A child that sleeps, then C code that holds the GIL."""
    child = subprocess.Popen(["sleep", "60"])
    Path(marker).write_text(f"{os.getpid()} {child.pid}")
    ctypes.PyDLL(None).sleep(60)
