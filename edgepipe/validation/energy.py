"""Joules of one inference, from the counters that a machine has, less what it takes when idle."""

from __future__ import annotations

import contextlib
import math
import statistics
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgepipe.validation.evidence import Energy, Interval

SYSTEM = Path("/")
ROUNDS = 5
"""Stretches of either side; the interval is of these."""
STRETCH = 2.0
"""Seconds of a stretch: counters of processors move about every millisecond, INA's slower."""
SAMPLES_A_SECOND = 50
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Two-sided 95 % points of Student's distribution for so many stretches."""


class Counter(ABC):
    """Something that counts or measures energy."""

    words: str
    """What it is and what it takes in: `RAPL, package-0`."""
    sampled: ClassVar[bool] = False
    """Whether it measures power, which must be asked for all the while."""

    @abstractmethod
    def read(self) -> float:
        """Joules so far, or watts now where it is `sampled`."""


class Rapl(Counter):
    """Intel's and AMD's counters of the processor's packages, through the kernel's powercap."""

    def __init__(self, zones: Sequence[Path]) -> None:
        self.zones = list(zones)
        names = [_text(zone / "name") for zone in zones]
        self.words = f"RAPL, {', '.join(names)}"
        self._last = [self._raw(zone) for zone in self.zones]
        self._joules = 0.0

    def read(self) -> float:
        for place, zone in enumerate(self.zones):
            now, before = self._raw(zone), self._last[place]
            if now < before:  # It starts anew at its range, minutes apart under load.
                before -= _whole(zone / "max_energy_range_uj")
            self._joules += (now - before) / 1e6
            self._last[place] = now
        return self._joules

    @staticmethod
    def _raw(zone: Path) -> int:
        return int((zone / "energy_uj").read_text())


class Ina(Counter):
    """A shunt's monitor on a board (INA219, INA3221 of a Jetson), through the kernel's hwmon."""

    sampled = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words = f"{_text(folder / 'name')}, {self._channels()[1]}"

    def read(self) -> float:
        return self._channels()[0]

    def _channels(self) -> tuple[float, str]:
        """Watts, and the rails that they are of."""
        powers = sorted(self.folder.glob("power*_input"))
        if powers:
            return sum(_whole(one) for one in powers) / 1e6, "its power"
        watts, rails = 0.0, []
        for current in sorted(self.folder.glob("curr*_input")):
            number = current.name.removeprefix("curr").removesuffix("_input")
            volts = self.folder / f"in{number}_input"
            if volts.exists():  # mA times mV
                watts += _whole(current) * _whole(volts) / 1e6
                rails.append(_text(self.folder / f"in{number}_label") or f"in{number}")
        total = [place for place, name in enumerate(rails) if name == "VDD_IN"]
        if total:  # A Jetson's first rail feeds the others.
            number = sorted(self.folder.glob("curr*_input"))[total[0]].name[4:-6]
            now = _whole(self.folder / f"curr{number}_input")
            return now * _whole(self.folder / f"in{number}_input") / 1e6, "VDD_IN"
        return watts, "+".join(rails)


class Nvml(Counter):
    """Nvidia's own library, without a package: the GPU's counter, from Volta on."""

    def __init__(self, index: int = 0, library: str = "libnvidia-ml.so.1") -> None:
        import ctypes

        self._library: Any = ctypes.CDLL(library)
        if self._library.nvmlInit_v2():
            raise OSError("NVML does not start")
        self._device = ctypes.c_void_p()
        if self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(self._device)):
            raise OSError(f"NVML has no GPU {index}")
        self._joules = ctypes.c_ulonglong()
        name = ctypes.create_string_buffer(96)
        self._library.nvmlDeviceGetName(self._device, name, 96)
        self.words = f"NVML, {name.value.decode(errors='replace')}"
        self.read()

    def read(self) -> float:
        import ctypes

        found = ctypes.byref(self._joules)
        if self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, found):
            raise OSError("this GPU counts no energy")
        return self._joules.value / 1000


@dataclass(frozen=True)
class Found:
    """A counter, or why there is none."""

    counter: Counter | None
    why: str = ""


def find(root: Path = SYSTEM, gpu: bool = False) -> Found:
    """The best counter for where the model runs. `root` is another's tree for tests."""
    if gpu:
        try:
            return Found(Nvml())
        except (OSError, AttributeError) as error:
            return Found(None, f"the GPU's energy can't be read through NVML: {error}")
    zones = [
        zone
        for zone in sorted((root / "sys/class/powercap").glob("*-rapl:*"))
        if zone.name.count(":") == 1  # Deeper ones are parts of these.
        and (_text(zone / "name").startswith("package") or _text(zone / "name") == "psys")
    ]
    packages = [zone for zone in zones if _text(zone / "name").startswith("package")] or zones
    if packages:
        try:
            return Found(Rapl(packages))
        except PermissionError:
            # CVE-2020-8694: the kernel gives these to root alone since 5.10.
            return Found(
                None, f"RAPL is for root alone here: {packages[0] / 'energy_uj'} can't be read"
            )
        except (OSError, ValueError) as error:
            return Found(None, f"RAPL can't be read: {error}")
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _text(folder / "name").startswith("ina"):
            try:
                return Found(Ina(folder))
            except (OSError, ValueError) as error:
                return Found(None, f"{_text(folder / 'name')} can't be read: {error}")
    return Found(
        None,
        "this machine shows no counter: no RAPL in /sys/class/powercap (virtual machines mostly"
        " have none), no INA sensor in /sys/class/hwmon",
    )


Clock = Callable[[], float]
Run = Callable[[float], dict[str, Any]]
"""Runs a model for so many seconds; tells `runs` and `seconds`."""


def measure(
    counter: Counter,
    candidate: Run,
    baseline: Run | None = None,
    rest: Callable[[float], None] = time.sleep,
    rounds: int = ROUNDS,
    stretch: float = STRETCH,
    clock: Clock = time.perf_counter,
) -> tuple[Energy, tuple[str, ...]]:
    """By turns, as latency is: idle, candidate, baseline, again and again."""
    idle: list[float] = []
    spent: dict[str, list[float]] = {"candidate": [], "baseline": []}
    sides = {"candidate": candidate, **({"baseline": baseline} if baseline else {})}
    for _ in range(rounds):
        joules, seconds = _during(counter, lambda: rest(stretch), clock)
        idle.append(joules / seconds)
        for name, run in sides.items():
            told: dict[str, Any] = {}

            def work(run: Run = run, told: dict[str, Any] = told) -> None:
                told.update(run(stretch))

            joules, seconds = _during(counter, work, clock)
            # What is idle is taken from the stretch beside it: a machine warms up.
            spent[name].append((joules - idle[-1] * seconds) / max(1, told["runs"]))
    found = {name: _interval(values) for name, values in spent.items() if values}
    watts = statistics.median(idle)
    notes = [f"energy is what {counter.words} counts, less {watts:.2f} W when idle"]
    for name, interval in found.items():
        if interval.low <= 0:
            notes.append(f"the energy of the {name} can't be told from the idle machine's")
    return Energy(counter.words, found["candidate"], found.get("baseline")), tuple(notes)


def _during(counter: Counter, work: Callable[[], None], clock: Clock) -> tuple[float, float]:
    """Joules and seconds of some work."""
    begun = clock()
    if not counter.sampled:
        before = counter.read()
        work()
        return counter.read() - before, clock() - begun
    watts, over = [counter.read()], threading.Event()

    def sample() -> None:
        while not over.wait(1 / SAMPLES_A_SECOND):
            with contextlib.suppress(OSError, ValueError):  # A bus that is busy: the next one.
                watts.append(counter.read())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        work()
    finally:
        over.set()
        thread.join()
    seconds = clock() - begun
    return statistics.fmean(watts) * seconds, seconds


def _interval(values: Sequence[float]) -> Interval:
    middle = statistics.fmean(values)
    if len(values) < 2:
        return Interval(middle, middle, middle)
    half = STUDENT.get(len(values), 2.6) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(middle, middle - half, middle + half)


def _whole(path: Path) -> int:
    return int(path.read_text())


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
