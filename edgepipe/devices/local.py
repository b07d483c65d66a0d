"""A board that is this machine: its own Python, the toolchain's, or an emulated processor's."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from edgepipe.devices import emulated_machine
from edgepipe.devices.board import ASK_SECONDS, TAIL, Board, Done, Job, Tell
from edgepipe.devices.inventory import HOST
from edgepipe.errors import DeviceUnreachable, ToolMissing

_LAUNCH = """
import ctypes, os, signal, sys
if sys.platform.startswith("linux"):
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
if os.getppid() == int(sys.argv[1]):
    os.execvpe(sys.argv[2], sys.argv[2:], os.environ)
"""
"""The job dies with us, by kill -9 too."""


class LocalBoard(Board):
    """Nothing is copied: a job's folder holds links, and goes with the job."""

    _running: subprocess.Popen[str] | None = None
    _stopped = False

    def start(self) -> tuple[list[str], dict[str, str]]:
        """How its Python is started, and the environment for that."""
        device = self.device
        if device.kind == "emulated":
            machine = emulated_machine.spec(device.machine)
            emulated_machine.make(machine)
            return emulated_machine.command(machine, device.cpu)
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if device.name.partition(":")[0] == HOST and not device.python:
            from edgepipe import toolchain

            return [str(toolchain.find("edge").python)], clean
        named = device.python or "python3"
        found = shutil.which(named)
        if found is None:
            raise ToolMissing(
                f"{device.name} is to run {named!r}, which isn't on the PATH",
                hint="name its Python: `edgepipe device add NAME --local --python PATH --force`.",
            )
        return [found], clean

    def ask(self, script: str, arguments: Sequence[str] = ()) -> str:
        command, environment = self.start()
        try:
            said = subprocess.run(
                [*command, "-c", script, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=ASK_SECONDS,
                cwd=tempfile.gettempdir(),
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceUnreachable(
                f"{self.device.name} did not answer within {ASK_SECONDS:.0f} s"
            ) from error
        if said.returncode:
            told = " ".join((said.stderr or said.stdout).split())[-TAIL:]
            raise DeviceUnreachable(
                f"the Python of {self.device.name} ended with {said.returncode}: {told}"
            )
        return said.stdout

    def run(self, job: Job, into: Path, on_line: Tell, tell: Tell) -> Done:
        command, environment = self.start()
        with tempfile.TemporaryDirectory(prefix="edgepipe-device-") as scratch:
            folder = Path(scratch)
            for name, file in job.files.items():
                (folder / name).symlink_to(file.absolute())
            code, said = self._run(
                [*command, job.script, *job.arguments],
                {**environment, **job.secrets},
                folder,
                job.seconds,
                on_line,
            )
            into.mkdir(parents=True, exist_ok=True)
            results = {}
            for name in job.results:
                if (folder / name).is_file():
                    (into / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(folder / name, into / name)
                    results[name] = into / name
        return Done(code, said, results)

    def _run(
        self, command: list[str], environment: dict[str, str], folder: Path, seconds: float,
        on_line: Tell,
    ) -> tuple[int, str]:  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _LAUNCH, str(os.getpid()), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=folder,
            start_new_session=True,
        )
        self._running = process
        if self._stopped:
            _kill(process)
        late = threading.Event()

        def end() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(seconds, end)
        timer.start()
        lines = []
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                on_line(line.rstrip("\n"))
            code = process.wait()
        finally:
            timer.cancel()
            _kill(process)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if late.is_set():
            lines.append(f"ended after {seconds:.0f} s\n")
            code = TIMED_OUT
        return code, "".join(lines)

    def stop(self) -> None:
        self._stopped = True
        if self._running is not None:
            _kill(self._running)

    def clean(self) -> None:
        """Nothing stays here but the emulated system, which other devices may share."""


TIMED_OUT = 124
"""As coreutils' timeout ends."""


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
