"""Energy from made trees of /sys: no machine of ours shows a counter, so these stand for them."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgepipe.validation import energy
from edgepipe.validation.energy import Rapl

POWERCAP, HWMON = "sys/class/powercap", "sys/class/hwmon"


def write(root: Path, files: dict[str, object]) -> Path:
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


@pytest.fixture
def rapl(tmp_path: Path) -> Path:
    """Two packages, the cores of one, and the kernel's folder of the whole."""
    files: dict[str, object] = {f"{POWERCAP}/intel-rapl/enabled": 1}
    for zone, name in (("0", "package-0"), ("1", "package-1"), ("0:0", "core")):
        folder = f"{POWERCAP}/intel-rapl:{zone}"
        files |= {
            f"{folder}/name": name,
            f"{folder}/energy_uj": 1_000_000,
            f"{folder}/max_energy_range_uj": 10_000_000,
        }
    return write(tmp_path, files)


def add(root: Path, zone: str, joules: float) -> None:
    path = root / POWERCAP / f"intel-rapl:{zone}" / "energy_uj"
    path.write_text(str((int(path.read_text()) + round(joules * 1e6)) % 10_000_000))


def test_packages_are_counted_and_their_parts_are_not(rapl: Path) -> None:
    counter = energy.find(rapl).counter
    assert counter is not None
    assert counter.words == "RAPL, package-0, package-1"
    before = counter.read()
    for zone, joules in (("0", 2), ("1", 3), ("0:0", 1)):
        add(rapl, zone, joules)
    assert counter.read() - before == pytest.approx(5)


def test_a_counter_that_starts_anew_goes_on(rapl: Path) -> None:
    counter = Rapl([rapl / POWERCAP / "intel-rapl:0"])
    for _ in range(5):
        add(rapl, "0", 4)
        counter.read()
    assert counter.read() == pytest.approx(20)


def test_what_the_machine_takes_when_idle_is_taken_off(rapl: Path) -> None:
    counter = energy.find(rapl).counter
    assert counter is not None
    clock = (float(look // 2) for look in itertools.count(1))

    def rest(seconds: float) -> None:
        add(rapl, "0", 0.02)

    def run(joules: float) -> energy.Run:
        def for_a_while(seconds: float) -> dict[str, Any]:
            add(rapl, "0", joules)
            return {"runs": 10, "seconds": seconds}

        return for_a_while

    found, notes = energy.measure(counter, run(1.02), run(2.02), rest, clock=lambda: next(clock))
    # One second each: 0.02 J of it the idle machine's, ten runs.
    assert found.candidate.value == pytest.approx(0.1)
    assert found.baseline is not None
    assert found.baseline.value == pytest.approx(0.2)
    assert "less 0.02 W when idle" in notes[0]
    assert len(notes) == 1


def test_a_sensor_of_power_is_asked_all_the_while(tmp_path: Path) -> None:
    folder = f"{HWMON}/hwmon0"
    write(tmp_path, {f"{folder}/name": "ina219", f"{folder}/power1_input": 5_000_000})
    counter = energy.find(tmp_path).counter
    assert counter is not None
    power = tmp_path / folder / "power1_input"

    def run(seconds: float) -> dict[str, Any]:
        import time

        power.write_text("9000000")
        time.sleep(seconds)
        power.write_text("5000000")
        return {"runs": 4, "seconds": seconds}

    found, notes = energy.measure(counter, run, rounds=3, stretch=0.2)
    # Four watts above idle for 0.2 s in four runs, less for the sample before and after.
    assert 0.05 < found.candidate.value < 0.3
    assert found.source == "ina219, its power"
    assert "less 5.00 W" in notes[0]


def test_a_jetson_counts_the_rail_that_feeds_the_others(tmp_path: Path) -> None:
    folder = f"{HWMON}/hwmon3"
    files: dict[str, object] = {f"{folder}/name": "ina3221"}
    for number, rail, volts, amperes in ((1, "VDD_IN", 5000, 1000), (2, "VDD_CPU", 5000, 400)):
        files |= {
            f"{folder}/in{number}_label": rail,
            f"{folder}/in{number}_input": volts,
            f"{folder}/curr{number}_input": amperes,
        }
    counter = energy.find(write(tmp_path, files)).counter
    assert counter is not None
    assert counter.words == "ina3221, VDD_IN"
    assert counter.read() == pytest.approx(5.0)


def test_a_counter_for_root_alone_is_said(rapl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(zone: Path) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Rapl, "_raw", staticmethod(refuse))  # root may read what it likes
    found = energy.find(rapl)
    assert found.counter is None
    assert "RAPL is for root alone" in found.why


def test_no_counter_is_said_with_where_was_looked(tmp_path: Path) -> None:
    found = energy.find(tmp_path)
    assert found.counter is None
    assert "/sys/class/powercap" in found.why and "hwmon" in found.why


def test_energy_below_that_of_the_idle_machine_is_no_figure(rapl: Path) -> None:
    counter = energy.find(rapl).counter
    assert counter is not None
    _, notes = energy.measure(
        counter, lambda seconds: {"runs": 3}, rest=lambda seconds: add(rapl, "0", 1), rounds=2
    )
    assert any("can't be told from the idle machine's" in note for note in notes)


NVML = """
static unsigned long long spent = 1000;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  *device = &spent;
  return index ? 2 : 0;
}
int nvmlDeviceGetName(void *device, char *name, unsigned length) {
  const char *words = "A GPU";
  for (unsigned i = 0; i < 6 && i < length; ++i) name[i] = words[i];
  return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *joules) {
  if (device != &spent) return 2;
  *joules = spent += 5000;
  return 0;
}
"""
"""The functions of Nvidia's library that are called, with its types (nvml.h)."""


def test_a_gpu_is_read_through_its_own_library(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: apt install gcc")
    source, library = tmp_path / "nvml.c", tmp_path / "libnvidia-ml.so.1"
    source.write_text(NVML)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    counter = energy.Nvml(library=str(library))
    assert counter.words == "NVML, A GPU"
    before = counter.read()
    assert counter.read() - before == pytest.approx(5.0)
    with pytest.raises(OSError, match="no GPU 1"):
        energy.Nvml(1, str(library))


def test_no_gpu_is_said() -> None:
    try:
        energy.Nvml()
    except OSError:
        found = energy.find(gpu=True)
        assert found.counter is None
        assert "through NVML" in found.why
    else:
        pytest.skip("there is a GPU here")
