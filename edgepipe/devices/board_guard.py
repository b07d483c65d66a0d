"""Goes to the board: runs a job apart from the connection, and tells what it says, from anywhere.

    python3 board_guard.py run FOLDER SECONDS SCRIPT [ARGUMENT]...
    python3 board_guard.py follow FOLDER OFFSET

One file for Python 3.7 and newer, with nothing but the standard library. The job goes on when the
connection is cut, and ends by itself when nobody has followed it for a while.
"""

import json
import os
import signal
import subprocess
import sys
import time
from typing import List, Optional

LONELY_SECONDS = float(os.environ.get("EDGEPIPE_LONELY_SECONDS", "120"))
BEAT_SECONDS = 0.1
LATE, LONELY = 124, 125
LOG, CODE, ALIVE, PID, SECRETS = "said.log", "code", "alive", "pid", "secrets.json"


def run(folder: str, seconds: float, command: List[str]) -> int:
    """Returns at once; what stays is a process of its own."""
    if os.path.exists(os.path.join(folder, PID)):
        return 0  # Started already: the connection was cut before its answer came.
    if os.fork():
        return 0
    os.setsid()
    os.chdir(folder)
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    write(PID, str(os.getpid()))
    write(ALIVE, "")
    code = guarded(command, seconds)
    write(CODE, "%d\n" % code)
    os._exit(0)


def guarded(command: List[str], seconds: float) -> int:
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    try:
        with open(SECRETS) as file:
            environment.update(json.load(file))
        os.unlink(SECRETS)
    except FileNotFoundError:
        pass
    job = subprocess.Popen([sys.executable] + command, env=environment)
    end = time.monotonic() + seconds
    why: Optional[int] = None
    while job.poll() is None:
        time.sleep(BEAT_SECONDS)
        if time.monotonic() > end:
            why = LATE
        elif time.time() - os.stat(ALIVE).st_mtime > LONELY_SECONDS:
            why = LONELY
        if why is not None:
            job.kill()
            job.wait()
            return why
    return job.returncode


def follow(folder: str, offset: int) -> int:
    """All that the job says from here on, to its end; what ends the following ends nothing."""
    os.chdir(folder)
    shown = sys.stdout.buffer
    while True:
        os.utime(ALIVE, None)
        ended = os.path.exists(CODE) or not runs()
        try:
            with open(LOG, "rb") as file:
                file.seek(offset)
                text = file.read()
        except FileNotFoundError:
            text = b""
        if text:
            shown.write(text)
            shown.flush()
            offset += len(text)
        elif ended:
            return 0
        time.sleep(BEAT_SECONDS)


def runs() -> bool:
    try:
        with open(PID) as file:
            os.kill(int(file.read()), 0)
    except (OSError, ValueError):
        return False
    return True


def write(name: str, text: str) -> None:
    with open(name + ".part", "w") as file:
        file.write(text)
    os.rename(name + ".part", name)


def main(words: List[str]) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN if words[0] == "run" else signal.SIG_DFL)
    if words[0] == "run":
        return run(words[1], float(words[2]), words[3:])
    return follow(words[1], int(words[2]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
