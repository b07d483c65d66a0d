"""The child's side of the sandbox: a loop that runs jobs in a toolchain's interpreter.

Started by path, so that edgepipe needs no installation there: the folders of its packages
come in as arguments and are mounted as modules. Jobs arrive as JSON lines on standard input,
results leave on a pipe of their own; what frameworks print goes to the log of the job.
"""

from __future__ import annotations

import sys

# Python puts the script's folder first, and `edgepipe/artifact.py` is no top-level module.
if __name__ == "__main__" and sys.path and sys.path[0].endswith("edgepipe"):
    del sys.path[0]

import contextlib
import ctypes
import fcntl
import importlib
import importlib.util
import io
import json
import os
import resource
import signal
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLONE_NEWUSER = 0x10000000  # linux/sched.h
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h


def main(arguments: list[str]) -> int:
    settings = json.loads(arguments[0])
    jobs, results = _take_pipes(settings["results"])
    # In this order: the kernel lets no process with threads into a new user namespace.
    isolated = settings["network"] or cut_network()
    _die_with_parent(settings["lifeline"])
    for name, folder in settings["mount"].items():
        mount(name, folder)
    sys.path[:0] = settings.get("path", [])
    _send(results, {"ready": True, "isolated": isolated is True, "python": sys.version.split()[0]})
    for line in jobs:
        job = json.loads(line)
        _open_log(job["log"])
        answer = _run(job)
        _flush()
        _send(results, answer)
    return 0


def mount(name: str, folder: str) -> None:
    """Make `name` importable from `folder` and nothing else beside it."""
    spec = importlib.util.spec_from_file_location(
        name, str(Path(folder) / "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def _run(job: dict[str, Any]) -> dict[str, Any]:
    from edgepipe.errors import EdgepipeError, StageOutOfMemory

    _reset_peak()
    start = time.perf_counter()
    answer: dict[str, Any] = {"id": job["id"]}
    try:
        module, _, name = job["entry"].partition(":")
        answer["value"] = getattr(importlib.import_module(module), name)(**job["arguments"])
    except EdgepipeError as error:
        answer["error"] = error.to_json()
        answer["traceback"] = traceback.format_exc()
    except MemoryError:
        answer["error"] = StageOutOfMemory("the interpreter ran out of memory").to_json()
        answer["traceback"] = traceback.format_exc()
    except BaseException as error:
        # A framework may raise anything: onnx2tf calls sys.exit, a panic in Rust is no Exception.
        answer["failure"] = {"type": type(error).__name__, "message": str(error)}
        answer["traceback"] = traceback.format_exc()
    if "traceback" in answer:
        _flush()
        os.write(2, answer["traceback"].encode(errors="replace"))
    answer["seconds"] = time.perf_counter() - start
    answer["peak"] = peak_memory()
    return answer


def _take_pipes(results: int) -> tuple[io.TextIOWrapper, io.BufferedWriter]:
    """Keep the job and result pipes to ourselves: frameworks read nothing and print to the log."""
    jobs = os.fdopen(os.dup(0), "r", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.set_inheritable(results, False)
    return jobs, os.fdopen(results, "wb")


def _send(results: io.BufferedWriter, answer: dict[str, Any]) -> None:
    try:
        line = json.dumps(answer)
    except (TypeError, ValueError):
        if "value" in answer:
            value = answer.pop("value")
            answer["failure"] = {
                "type": "TypeError",
                "message": f"the job returned {value!r:.200}, which is no JSON",
            }
            answer["traceback"] = traceback.format_exc()
        line = json.dumps(answer, default=str)  # An error may carry a path.
    results.write(line.encode() + b"\n")
    results.flush()


def _flush() -> None:
    """Out with what a framework's own streams hold back, while the log is still this job's."""
    for stream in (sys.stdout, sys.stderr):
        # A framework may have put anything in their place, or closed them.
        with contextlib.suppress(Exception):
            stream.flush()


def _open_log(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _die_with_parent(lifeline: int) -> None:
    """When the parent goes, even by kill -9, this process group goes.

    The parent holds the other end of a pipe; when that closes, the kernel signals the group.
    PR_SET_PDEATHSIG would not do: it follows the parent's thread and spares grandchildren.
    A thread waits beside it, for kernels without signal-driven pipes.
    """
    os.set_inheritable(lifeline, False)
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, int(signal.SIGKILL))
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)

    def wait_for_the_end() -> None:
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait_for_the_end, daemon=True).start()


def cut_network() -> bool:
    """Move to a network namespace with nothing but a loopback. False where the kernel won't."""
    if not sys.platform.startswith("linux"):
        return False
    if _unshare(CLONE_NEWNET) or (_survives(_leave_unprivileged) and _leave_unprivileged()):
        with contextlib.suppress(OSError):  # Without a loopback it is cut all the same.
            _raise_loopback()
        return True
    return False


def _unshare(flags: int) -> bool:
    return bool(ctypes.CDLL(None).unshare(flags) == 0)


def _leave_unprivileged() -> bool:
    """Through a user namespace, as a user without rights must."""
    user, group = os.getuid(), os.getgid()
    if not _unshare(CLONE_NEWUSER | CLONE_NEWNET):
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _survives(step: Callable[[], bool]) -> bool:
    """Try a step that can't be taken back in a child first.

    Ubuntu 24.04 lets anyone into a user namespace and then refuses the writing of its maps
    (AppArmor), which would leave this process as no user at all.
    """
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(OSError):
            code = 0 if step() else 1
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(probe, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def _reset_peak() -> None:
    """Start the high-water mark of memory anew for this job (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Bytes of this process at their highest since the last reset."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
