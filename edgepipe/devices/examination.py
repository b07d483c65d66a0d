"""What a board has and what it lacks for a run, each lack with the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgepipe.devices.board import open_board
from edgepipe.devices.inventory import Device
from edgepipe.errors import EdgepipeError
from edgepipe.process_memory import words as of_size

PROBE = Path(__file__).with_name("board_probe.py")
LEAST_PYTHON = (3, 7)
LEAST_SPACE = 200 << 20
"""Bytes: a bundle of a few hundred pictures, and the room to write its results."""
LEAST_MEMORY = 128 << 20
LITERT_FROM = (3, 10)
"""ai-edge-litert has wheels from this Python on; tflite-runtime below it, up to 3.11."""


@dataclass(frozen=True)
class Lack:
    """One thing that a run may miss; `mend` is to be typed on the board."""

    what: str
    mend: str
    fatal: bool = True


@dataclass(frozen=True)
class Finding:
    """How a board is. Without facts it could not be asked, and `problem` says why."""

    device: str
    words: str
    facts: dict[str, Any] = field(default_factory=dict)
    lacks: tuple[Lack, ...] = ()
    problem: str = ""
    hint: str = ""

    @property
    def ready(self) -> bool:
        return not self.problem and not any(lack.fatal for lack in self.lacks)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ready": self.ready}


def examine(device: Device) -> Finding:
    """Ask the board. Never raises for what is wrong with it."""
    script = PROBE.read_text(encoding="utf-8")
    try:
        with open_board(device) as board:
            facts = board.facts(script)
    except EdgepipeError as error:
        return Finding(device.name, device.words, problem=error.message, hint=error.hint)
    return Finding(device.name, device.words, facts, tuple(lacks(device, facts)))


def lacks(device: Device, facts: dict[str, Any]) -> Iterator[Lack]:
    """What is missing, most needed first."""
    version = tuple(int(part) for part in str(facts["python"]).split(".")[:2])
    python = facts["executable"] or "python3"
    if version < LEAST_PYTHON:
        yield Lack(
            f"Python {'.'.join(map(str, LEAST_PYTHON))} or newer: it has {facts['python']}",
            "sudo apt install python3, or name another one with --python",
        )
    if _missing(facts["numpy"]):
        yield Lack(f"numpy{_why(facts['numpy'])}", _pip(python, "numpy", "python3-numpy"))
    usable = {name: told for name, told in facts["runtimes"].items() if not _missing(told)}
    if not usable:
        broken = "; ".join(f"{name} is {told}" for name, told in facts["runtimes"].items())
        name = "ai-edge-litert" if version >= LITERT_FROM and facts["bits"] == 64 else ""
        mend = _pip(python, name or '"tflite-runtime" "numpy<2"')
        yield Lack(f"a runtime{f' ({broken})' if broken else ''}", mend)
    yield from _edgetpu(device, facts)
    space = facts["space"]
    if space and not space["writable"]:
        yield Lack(f"a folder that can be written: {space['folder']} can't", "--folder PATH")
    elif space and space["free"] < LEAST_SPACE:
        yield Lack(
            f"{of_size(LEAST_SPACE)} of space in {space['folder']}: {of_size(space['free'])} free",
            "make room, or --folder on another disk",
        )
    if facts["memory"] is not None and facts["memory"] < LEAST_MEMORY:
        yield Lack(f"memory: {of_size(facts['memory'])} are free", "end other programs", False)


def _edgetpu(device: Device, facts: dict[str, Any]) -> Iterator[Lack]:
    """Only where a stick is there or one is asked for: most boards have none."""
    asked = device.delegate == "edgetpu"
    if not asked and not facts["edgetpus"]:
        return
    if not facts["edgetpu_library"]:
        yield Lack(
            "the delegate libedgetpu.so.1", "sudo apt install libedgetpu1-std (Coral's packages)",
            asked,
        )  # fmt: skip
    if not facts["edgetpus"]:
        yield Lack("an Edge TPU: none on USB (`lsusb` shows 1a6e:089a or 18d1:9302) or PCIe",
                   "plug it in, or --delegate auto", asked)  # fmt: skip
    for stick in facts["edgetpus"]:
        if not stick["open"]:
            group = "apex" if "apex" in stick["node"] else "plugdev"
            yield Lack(
                f"permission on {stick['node']}",
                f"sudo usermod -aG {group} $USER, log in anew, and plug the stick in again",
                asked,
            )


def _pip(python: str, name: str, debian: str = "") -> str:
    told = f"{python} -m pip install {name}"
    return f"sudo apt install {debian}, or {told}" if debian else told


def _missing(version: Any) -> bool:
    return not version or str(version).startswith("broken")


def _why(version: Any) -> str:
    return f" ({version})" if version else ""
