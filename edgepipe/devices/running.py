"""One bundle on boards, several at once: each with its result or the error that it ended with."""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgepipe.devices.board import Done, Job
from edgepipe.devices.inventory import Device
from edgepipe.devices.together import Together
from edgepipe.errors import (
    EdgepipeError,
    OptionError,
    StageCrashed,
    StageFailed,
    StageOutOfMemory,
    StageTimedOut,
    ToolMissing,
    UsageError,
)

RUNNER = "run_on_device.py"
BUNDLE = "model.edgebundle"
SECONDS = 1800.0
KEY_VARIABLE, PUBLIC_VARIABLE = "EDGEPIPE_BUNDLE_KEY", "EDGEPIPE_BUNDLE_PUBLIC_KEY"
TAIL_LINES = 8
Told = Callable[[str, str, Mapping[str, Any]], None]
"""Called with the device's name, what happens there, and facts about it; from any thread."""


@dataclass(frozen=True)
class Asked:
    """How a bundle is to be run, wherever."""

    delegate: str = ""
    threads: int = 0
    device: str = ""
    only: tuple[str, ...] = ()
    limit: int = 0
    runs: int = 0
    latency: bool = True
    keep_tensors: bool = False
    allow_undecided: bool = False
    seconds: float = SECONDS
    key: Path | None = None
    public_key: Path | None = None

    def words(self, device: Device) -> list[str]:
        """For the runner's command line."""
        found = ["--quiet", "--progress", "json", "--out", "out"]
        found += ["--delegate", self.delegate or device.delegate]
        threads = self.threads or device.threads
        for name, value in (("threads", threads), ("limit", self.limit), ("runs", self.runs),
                            ("device", self.device)):  # fmt: skip
            if value:
                found += [f"--{name}", str(value)]
        for each in self.only:
            found += ["--only", each]
        # On an emulator a figure would be taken for one.
        if device.emulated or not self.latency:
            found.append("--no-latency")
        found += ["--keep-tensors"] if self.keep_tensors else []
        return found + (["--allow-undecided"] if self.allow_undecided else [])

    def secrets(self) -> dict[str, str]:
        found = {}
        for path, variable in ((self.key, KEY_VARIABLE), (self.public_key, PUBLIC_VARIABLE)):
            text = _key(path) if path else os.environ.get(variable, "")
            if text:
                found[variable] = text
        return found


@dataclass(frozen=True)
class Result:
    """What came of one board. Without a document, `error` says why."""

    device: Device
    asked: Asked
    document: Mapping[str, Any] | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    error: EdgepipeError | None = None
    sent: int = 0
    reconnects: int = 0
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        if self.document is not None:
            return int(self.document["exit_code"])
        return self.error.exit_code if self.error else 1


def runner_file() -> Path:
    spec = find_spec("edgepipe.device_tests")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).with_name(RUNNER)


@dataclass(frozen=True)
class Plan:
    """One run on one board."""

    device: Device
    asked: Asked
    into: Path


def run_all(
    devices: Sequence[Device], bundle: Path, asked: Asked, into: Path, told: Told
) -> list[Result]:
    """All boards at once; none waits for another, and one that fails stops none."""
    plans = [[Plan(device, asked, into / device.name)] for device in devices]
    return run_plans(plans, bundle, told)


def run_plans(plans: Sequence[Sequence[Plan]], bundle: Path, told: Told) -> list[Result]:
    """Boards beside each other, the runs of one board one after the other."""
    names = model_names(bundle)
    together = Together()

    def go(several: Sequence[Plan]) -> list[Result]:
        found = []
        for plan in several:
            found.append(_guarded(plan, bundle, names, told, together))
            if found[-1].document is None:
                break  # A board that is gone is gone for its other runs, too.
        return found

    return [result for each in together.each(go, plans) for result in each]


def _guarded(
    plan: Plan, bundle: Path, names: Sequence[str], told: Told, together: Together
) -> Result:
    start = time.monotonic()
    device, asked = plan.device, plan.asked
    try:
        done = _run(plan, bundle, names, told, together)
        document = _document(device, done)
    except EdgepipeError as error:
        told(device.name, "failed", {"error": error.message})
        return Result(device, asked, error=error, seconds=time.monotonic() - start)
    told(device.name, "finished", {"verdict": document["verdict"]})
    files = {Path(name).name: path for name, path in done.results.items()}
    return Result(device, asked, document, files, None, done.sent, done.reconnects,
                  time.monotonic() - start)  # fmt: skip


def _run(plan: Plan, bundle: Path, names: Sequence[str], told: Told, together: Together) -> Done:
    device, asked = plan.device, plan.asked

    def hear(line: str) -> None:
        if line.startswith('{"event"'):
            try:
                facts = json.loads(line)
            except ValueError:
                return
            told(device.name, str(facts.pop("event")), facts)

    results = ["out/result.json", "out/junit.xml"]
    for name in names:
        results += [f"out/{kind}-{name.replace('/', '_')}.npz" for kind in ("outputs", "tensors")]
    job = Job(
        script=RUNNER,
        arguments=(BUNDLE, *asked.words(device)),
        files={RUNNER: runner_file(), BUNDLE: bundle},
        results=tuple(results),
        seconds=asked.seconds,
        secrets=asked.secrets(),
    )
    told(device.name, "connecting", {})
    with together.board(device) as board:
        return board.run(
            job, plan.into, hear, lambda words: told(device.name, "note", {"words": words})
        )


_ERRORS: Mapping[int, type[EdgepipeError]] = {
    2: UsageError, 3: ToolMissing, 4: StageFailed, 124: StageTimedOut, 125: StageTimedOut,
    137: StageOutOfMemory, -9: StageOutOfMemory,
}  # fmt: skip


def _document(device: Device, done: Done) -> dict[str, Any]:
    """The runner's own document; where it wrote none, its last words as an error of ours."""
    path = done.results.get("out/result.json")
    if path is not None:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    raise stopped(device, done)


def stopped(device: Device, done: Done) -> EdgepipeError:
    """What to tell of a job that brought no results: its last words, or how it ended."""
    lines = [line for line in done.said.splitlines() if not line.startswith('{"event"')]
    said = next((line[7:] for line in lines if line.startswith("error: ")), "")
    hint = next((line.strip()[3:] for line in lines if line.startswith("  -> ")), "")
    words = {
        124: "it took too long: more time with --timeout",
        125: "nobody heard of it for two minutes, and it ended itself",
        137: "it was killed, most likely for memory",
        -9: "it was killed, most likely for memory",
    }
    told = said or words.get(done.code, "") or " ".join(lines[-3:])[-300:] or "it said nothing"
    kind = _ERRORS.get(done.code, StageCrashed)
    return kind(
        f"{device.name}: {told}",
        hint=hint or f"`edgepipe device doctor {device.name}` says what it has and lacks.",
        tail=[] if said else lines[-TAIL_LINES:],
        exit=done.code,
    )


def model_names(bundle: Path) -> list[str]:
    try:
        with zipfile.ZipFile(bundle) as archive:
            manifest = json.loads(archive.read("manifest.json"))
        return [str(model["name"]) for model in manifest["models"]]
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise OptionError(
            f"{bundle} is no bundle: {error}", hint="make one: `edgepipe bundle OUT --data DATA`."
        ) from error


def _key(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"the key {path} can't be read") from error
