"""Runs Vela as a program of its own: it may die, and its words are all that it tells."""

from __future__ import annotations

import importlib.metadata
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepipe.errors import StageFailed
from edgepipe.targets.ethosu import vela_words
from edgepipe.targets.ethosu.accelerators import System


@dataclass(frozen=True)
class Asked:
    """What Vela is told beside the model."""

    accelerator: str
    system: System
    optimise: str
    arena: int | None


@dataclass(frozen=True)
class Answered:
    """The compiled file, the folder with Vela's tables, and what it printed."""

    path: Path
    folder: Path
    lines: list[str]
    version: str


def compile_model(model: Path, asked: Asked, folder: Path) -> Answered:
    """Have Vela compile a model into a folder; StageFailed, in one sentence, if it can't."""
    folder.mkdir(parents=True, exist_ok=True)
    version = importlib.metadata.version("ethos-u-vela")
    # The name decides those of the outputs, and some characters are wildcards to it.
    source = folder / "model.tflite"
    source.symlink_to(model)
    ended = subprocess.run(
        [sys.executable, "-m", "ethosu.vela", str(source), *_flags(asked, folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        cwd=folder,
    )
    source.unlink()
    sys.stdout.write(ended.stdout)  # Into the log of the step.
    lines = ended.stdout.splitlines()
    path = folder / "model_vela.tflite"
    if ended.returncode != 0 or not path.is_file():
        raise StageFailed(_why(version, ended.returncode, lines))
    return Answered(path, folder, lines, version)


def _flags(asked: Asked, folder: Path) -> Sequence[str]:
    flags = [
        "--accelerator-config", asked.accelerator,
        "--config", asked.system.config,
        "--system-config", asked.system.system,
        "--memory-mode", asked.system.mode,
        "--optimise", asked.optimise,
        "--output-dir", str(folder),
        "--verbose-performance",
    ]  # fmt: skip
    return flags if asked.arena is None else [*flags, "--arena-cache-size", str(asked.arena)]


def _why(version: str, code: int, lines: list[str]) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"Vela {version} died of {name} on this model: {vela_words.last_error(lines)}"
    return f"Vela {version} can't compile it: {vela_words.last_error(lines)}"
