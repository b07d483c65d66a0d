"""The machine as far as it bears on latency: clocks, load, limits, heat; read, never set."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SYSTEM = Path("/")
TICKS = 100
"""Clock ticks a second in /proc/stat where the system doesn't say."""
CLOCKS = ("cpufreq", "thermal-cpufreq", "processor")
"""What the kernel calls the slowing of a processor, among fans and limits that only stand by."""
BUSY_SHARE = 0.1
"""Of the machine, taken by others, from which on it is worth a note."""


@dataclass(frozen=True)
class Counters:
    """What only the difference of two readings tells."""

    seconds: float
    busy: float | None
    """Seconds that all processors were at work, for whomever."""
    stolen: float | None
    throttled: int | None
    """Times that a core was slowed down for heat."""
    held_back: int | None
    """Times that the container's share of processors was used up."""


@dataclass
class Watch:
    """Facts at the beginning, and what changed until the end. `root` is another's for tests."""

    root: Path = SYSTEM
    begun: Counters = field(init=False)
    load: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.begun = counters(self.root)
        self.load = _load(self.root)

    def end(self, own: float) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What there is to record and to note, where `own` seconds of processors were ours."""
        now, then = counters(self.root), self.begun
        facts = machine(self.root)
        facts["load"] = {"before": self.load, "after": _load(self.root)}
        notes = []
        elapsed = (now.seconds - then.seconds) * (facts["cores"] or 1)
        if now.busy is not None and then.busy is not None and elapsed > 0:
            others = max(0.0, now.busy - then.busy - own) / elapsed
            facts["others"] = round(min(1.0, others), 3)
            if others > BUSY_SHARE:
                notes.append(f"other processes took {others:.0%} of the processors meanwhile")
        if now.stolen is not None and then.stolen is not None and elapsed > 0:
            stolen = (now.stolen - then.stolen) / elapsed
            facts["stolen"] = round(stolen, 3)
            if stolen > BUSY_SHARE:
                notes.append(f"the hypervisor gave {stolen:.0%} of the processors to others")
        for name, words in (
            ("throttled", "a core was slowed down for heat {} times meanwhile"),
            ("held_back", "the container's limit on processors held it back {} times meanwhile"),
        ):
            before, after = getattr(then, name), getattr(now, name)
            if before is not None and after is not None:
                facts[name] = after - before
                if after > before:
                    notes.append(words.format(after - before))
        if facts["cooling"]:
            notes.append(f"the kernel cools by slower clocks: {facts['cooling']}")
        facts["absent"] = sorted(
            name
            for name in ("frequency_mhz", "governor", "boost", "temperature", "throttled", "others")
            if facts.get(name) is None
        )
        return {name: value for name, value in facts.items() if value is not None}, tuple(notes)


def machine(root: Path = SYSTEM) -> dict[str, Any]:
    """What stays as it is, or is at this moment; None where the system doesn't tell."""
    cores = os.cpu_count()
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _model(root),
        "cores": cores,
        "usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores,
        "quota": quota(root),
        "frequency_mhz": _frequency(root),
        "governor": _governor(root),
        "boost": _boost(root),
        "temperature": _temperature(root),
        "cooling": _cooling(root),
    }
    return facts


def _model(root: Path) -> str:
    for line in _lines(root / "proc/cpuinfo"):
        name, _, value = line.partition(":")
        # Arm's kernels say the board's name under `Model`, and of the core only numbers.
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def _frequency(root: Path) -> dict[str, float] | None:
    """Now, over all cores, and what they may go up to."""
    now = [one / 1000 for one in _numbers(root, "scaling_cur_freq")]
    if not now:
        for line in _lines(root / "proc/cpuinfo"):
            name, _, value = line.partition(":")
            if name.strip() == "cpu MHz":
                with contextlib.suppress(ValueError):
                    now.append(float(value))
    if not now:
        return None
    found: dict[str, float] = {"min": round(min(now)), "max": round(max(now))}
    limits = _numbers(root, "scaling_max_freq")
    return {**found, "limit": round(max(limits) / 1000)} if limits else found


def _governor(root: Path) -> str | None:
    found = {_text(path) for path in _cpus(root, "cpufreq/scaling_governor")} - {""}
    return ", ".join(sorted(found)) or None


def _boost(root: Path) -> bool | None:
    """Whether cores may go above their nominal clock for a while."""
    cpu = root / "sys/devices/system/cpu"
    if off := _text(cpu / "intel_pstate/no_turbo"):
        return off == "0"
    if on := _text(cpu / "cpufreq/boost"):
        return on == "1"
    return None


def _temperature(root: Path) -> float | None:
    """Degrees of the hottest zone."""
    zones = (root / "sys/class/thermal").glob("thermal_zone*/temp")
    found = [number for path in zones if (number := _number(path)) is not None]
    return round(max(found) / 1000, 1) if found else None


def _cooling(root: Path) -> str | None:
    """What the kernel does against heat at this moment: on boards there is no counter of it."""
    active = [
        _text(folder / "type")
        for folder in sorted((root / "sys/class/thermal").glob("cooling_device*"))
        if _text(folder / "type").lower().startswith(CLOCKS)
        and (_number(folder / "cur_state") or 0) > 0
    ]
    # A Raspberry Pi's firmware: bit 0 low voltage, 1 a capped clock, 2 throttled, 3 warm.
    bits = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    with contextlib.suppress(ValueError):
        if int(bits or "0", 16) & 0b1111:
            active.append(f"the firmware's {bits}")
    return ", ".join(active) or None


def quota(root: Path = SYSTEM) -> float | None:
    """Processors that the container may use, the least of its groups; None without a limit."""
    found = []
    for folder in _groups(root):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            found.append(float(words[0]) / float(words[1]))
        share, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if share is not None and period and share > 0:
            found.append(share / period)
    return min(found) if found else None


def counters(root: Path = SYSTEM) -> Counters:
    busy = stolen = None
    ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else TICKS
    for line in _lines(root / "proc/stat"):
        if line.startswith("cpu "):
            # proc(5): user nice system idle iowait irq softirq steal
            numbers = [int(word) for word in line.split()[1:]]
            busy = sum(numbers[place] for place in (0, 1, 2, 5, 6) if place < len(numbers)) / ticks
            stolen = numbers[7] / ticks if len(numbers) > 7 else None
    throttles = [
        number
        for path in _cpus(root, "thermal_throttle/core_throttle_count")
        if (number := _number(path)) is not None
    ]
    held = []
    for folder in _groups(root):
        for line in _lines(folder / "cpu.stat"):
            name, _, value = line.partition(" ")
            if name == "nr_throttled" and value.strip().isdigit():
                held.append(int(value))
    return Counters(
        time.monotonic(),
        busy,
        stolen,
        sum(throttles) if throttles else None,
        sum(held) if held else None,
    )


def _groups(root: Path) -> list[Path]:
    """The folders of this process's control groups and of those above them, of either version."""
    found = []
    top = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        mount = top / kinds if kinds else top
        if kinds and "cpu" not in kinds.split(","):
            continue
        folder = mount / path.strip("/")
        # In a container with its own view the path is not below its mount.
        found += [one for one in (folder, *folder.parents) if one.is_relative_to(top)]
    return [*dict.fromkeys([*found, top])]


def _load(root: Path) -> float | None:
    words = _text(root / "proc/loadavg").split()
    if words:
        return float(words[0])
    if root == SYSTEM:
        with contextlib.suppress(OSError):
            return round(os.getloadavg()[0], 2)
    return None


def _cpus(root: Path, name: str) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu").glob(f"cpu[0-9]*/{name}"))


def _numbers(root: Path, name: str) -> list[float]:
    return [
        number for path in _cpus(root, f"cpufreq/{name}") if (number := _number(path)) is not None
    ]


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip()
    return ""


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()
