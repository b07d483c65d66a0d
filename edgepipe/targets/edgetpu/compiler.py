"""Finds `edgetpu_compiler`: on the PATH, named, in a Docker image or on another machine."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepipe.artifact import digest_file
from edgepipe.errors import EdgepipeError, ToolMissing
from edgepipe.targets.edgetpu import compiler_process
from edgepipe.targets.edgetpu.compile_log import VERSION
from edgepipe.targets.edgetpu.compiler_process import Said

NAME = "edgetpu_compiler"
VARIABLE = "EDGETPU_COMPILER"
PROBE_SECONDS = 60.0
HOW_TO_GET = (
    "it is a program for x86-64 Linux: on Debian or Ubuntu, add the repository of"
    " coral.ai/docs/edgetpu/compiler and `apt-get install edgetpu-compiler`; elsewhere say"
    " --compiler docker:IMAGE or --compiler ssh://user@host (docs/edgetpu.md);"
    f" {VARIABLE} names it for good"
)


class Place(ABC):
    """Where a compiler runs. `in/` of the folder holds the models, `out/` takes what it writes."""

    words: str

    @abstractmethod
    def ask(self, folder: Path) -> tuple[Said, str]:
        """What it says to --version, and what tells this program from another of that version.

        Raises ToolMissing where nothing can be asked.
        """

    @abstractmethod
    def run(
        self, names: Sequence[str], arguments: Sequence[str], folder: Path, seconds: float
    ) -> Said:
        """Compile files of `in/`, by name; the words go to `said.log`."""


@dataclass(frozen=True)
class Compiler:
    """One that answered. `replayed`: it plays back recordings, and compiles nothing."""

    place: Place
    version: str
    identity: str
    replayed: bool

    @property
    def words(self) -> str:
        if self.replayed:
            return f"a REPLAY of recorded outputs of version {self.version}, not the real compiler"
        return f"edgetpu_compiler {self.version} {self.place.words}"

    def to_json(self) -> dict[str, Any]:
        return {"version": self.version, "place": self.place.words, "replayed": self.replayed}


class Here(Place):
    """A program of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.words = f"at {path}"

    def ask(self, folder: Path) -> tuple[Said, str]:
        said = compiler_process.run(
            [str(self.path), "--version"], folder / "said.log", PROBE_SECONDS
        )
        return said, digest_file(self.path)

    def run(
        self, names: Sequence[str], arguments: Sequence[str], folder: Path, seconds: float
    ) -> Said:
        models = [str(folder / "in" / name) for name in names]
        command = [str(self.path), *arguments, "-o", str(folder / "out"), *models]
        return compiler_process.run(command, folder / "said.log", seconds)


def find(named: str = "") -> Compiler:
    """The compiler that was named, else that of the environment, else that on the PATH.

    Raises ToolMissing with how to get one.
    """
    place = _place(named or os.environ.get(VARIABLE, ""))
    with tempfile.TemporaryDirectory(prefix="edgepipe-compiler-") as folder:
        said, identity = place.ask(Path(folder))
    found = VERSION.search(said.text)
    if said.why or found is None:
        told = said.why or f"it said {_first_words(said)}"
        raise ToolMissing(
            f"no {NAME} {place.words}: its version was asked for, and {told}", hint=HOW_TO_GET
        )
    replayed = "replay" in found[2].lower()
    return Compiler(place, found[1], f"{found[0].strip()} {identity}", replayed)


def whereabouts() -> str:
    """Where it would be taken from, without starting it."""
    named = os.environ.get(VARIABLE, "")
    try:
        return f"{NAME} {_place(named).words}"
    except EdgepipeError as error:
        return f"{error.message}; without it the run ends at int8"


def _place(named: str) -> Place:
    if named.startswith("docker:"):
        from edgepipe.targets.edgetpu.compiler_docker import InDocker

        return InDocker.of(named)
    if named.startswith("ssh://"):
        from edgepipe.targets.edgetpu.compiler_ssh import OverSsh

        return OverSsh.of(named)
    found = shutil.which(str(Path(named).expanduser()) if named else NAME)
    if found is None:
        machine = f"{platform.system()} on {platform.machine()}"
        where = f"{named!r} is no program" if named else f"no {NAME} on the PATH"
        raise ToolMissing(f"{where} ({machine})", hint=HOW_TO_GET)
    return Here(Path(found).absolute())


def _first_words(said: Said) -> str:
    line = next((line.strip() for line in said.text.splitlines() if line.strip()), "")
    ended = f" (killed by {said.death})" if said.death else f" (exit code {said.code})"
    return (f"{line[:120]!r}" if line else "nothing") + ended
