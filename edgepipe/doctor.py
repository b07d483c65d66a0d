"""Runs each toolchain's doctor job in its interpreter and tells what came of it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgepipe.errors import InternalError
from edgepipe.toolchain import Interpreter, Toolchain

JOB_SECONDS = 300
TAIL_LINES = 5
# The answer goes to a file: frameworks print what they like.
_RUN = """
import importlib.util, json, sys
path, function, answer = sys.argv[1:]
spec = importlib.util.spec_from_file_location("doctor_jobs", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with open(answer, "w") as file:
    json.dump(getattr(module, function)(), file)
"""


@dataclass(frozen=True)
class Finding:
    """What a doctor job came to."""

    toolchain: str
    works: bool
    seconds: float
    accelerators: tuple[str, ...] = ()
    problem: str = ""
    tail: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(wanted: Toolchain, found: Interpreter) -> Finding:
    """Run the tiny model of this toolchain. Never raises for what is wrong in there."""
    start = time.monotonic()
    module, _, function = wanted.doctor.partition(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise InternalError(
            f"the doctor of {wanted.name!r} is {wanted.doctor!r}, which isn't there"
        )
    flags = ["-I"] if found.how == "made" else ["-s"]  # As its workers are started.
    with tempfile.TemporaryDirectory(prefix="edgepipe-doctor-") as folder:
        answer = Path(folder) / "answer.json"
        command = [str(found.python), *flags, "-c", _RUN, spec.origin, function, str(answer)]
        problem, lines = _run(command, Path(folder))
        accelerators = () if problem else tuple(json.loads(answer.read_text()))
    seconds = time.monotonic() - start
    return Finding(wanted.name, not problem, seconds, accelerators, problem, lines)


def _run(command: list[str], folder: Path) -> tuple[str, tuple[str, ...]]:
    """What went wrong, if anything, and the last words."""
    environment = {**os.environ, "TMPDIR": str(folder), "TF_CPP_MIN_LOG_LEVEL": "2"}
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            timeout=JOB_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"its tiny model was not done after {JOB_SECONDS} s", ()
    except OSError as error:
        return f"its Python can't be started: {error}", ()
    if ended.returncode == 0:
        return "", ()
    lines = [line for line in ended.stdout.decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "it said nothing"
    return f"exit code {ended.returncode}: {last}", tuple(lines[-TAIL_LINES:])
