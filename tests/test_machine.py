"""What is read of a machine, on trees like those of Linux on other machines than this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepipe.validation import machine


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A laptop with two cores, in a container with half of one."""
    cpu = "sys/devices/system/cpu"
    return write(
        tmp_path,
        {
            "proc/cpuinfo": "processor : 0\nmodel name\t: Some CPU @ 2.0GHz\ncpu MHz\t: 1999.0\n",
            "proc/loadavg": "1.50 0.70 0.30 2/300 1234\n",
            "proc/stat": "cpu  100 0 50 800 10 0 5 20 0 0\ncpu0 1 1 1\n",
            "proc/self/cgroup": "0::/app\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/app/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/app/cpu.stat": "nr_periods 10\nnr_throttled 3\n",
            f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "1200000\n",
            f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "2400000\n",
            f"{cpu}/cpu0/cpufreq/scaling_max_freq": "3000000\n",
            f"{cpu}/cpu0/cpufreq/scaling_governor": "powersave\n",
            f"{cpu}/cpu1/cpufreq/scaling_governor": "powersave\n",
            f"{cpu}/intel_pstate/no_turbo": "0\n",
            f"{cpu}/cpu0/thermal_throttle/core_throttle_count": "7\n",
            "sys/class/thermal/thermal_zone0/temp": "65500\n",
            "sys/class/thermal/thermal_zone1/temp": "41000\n",
        },
    )


def test_clocks_governor_heat_and_limits_are_read(board: Path) -> None:
    found = machine.machine(board)
    assert found["cpu"] == "Some CPU @ 2.0GHz"
    assert found["frequency_mhz"] == {"min": 1200, "max": 2400, "limit": 3000}
    assert found["governor"] == "powersave"
    assert found["boost"] is True
    assert found["temperature"] == 65.5
    assert found["quota"] == 0.5


def test_limits_of_the_older_control_groups_are_read(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert machine.quota(root) == 1.5


def test_what_changed_meanwhile_is_noted(board: Path) -> None:
    watch = machine.Watch(board)
    write(
        board,
        {
            # 9000 s more of work than before, at 100 ticks a second, for whomever.
            "proc/stat": "cpu  900100 0 50 800 10 0 5 20 0 0\n",
            "proc/loadavg": "2.00 0.70 0.30 2/300 1234\n",
            "sys/fs/cgroup/app/cpu.stat": "nr_periods 40\nnr_throttled 9\n",
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "9\n",
        },
    )
    facts, notes = watch.end(own=0.0)
    assert facts["load"] == {"before": 1.5, "after": 2.0}
    assert facts["throttled"] == 2
    assert facts["held_back"] == 6
    assert facts["others"] == 1.0
    assert facts["absent"] == []
    assert [note for note in notes if "for heat 2 times" in note]
    assert [note for note in notes if "held it back 6 times" in note]
    assert [note for note in notes if "other processes" in note]


def test_our_own_work_is_not_that_of_others(board: Path) -> None:
    watch = machine.Watch(board)
    write(board, {"proc/stat": "cpu  900100 0 50 800 10 0 5 20 0 0\n"})
    facts, notes = watch.end(own=9000.0)
    assert facts["others"] == 0.0
    assert notes == ()


def test_a_system_that_tells_nothing_is_said_to(tmp_path: Path) -> None:
    facts, notes = machine.Watch(tmp_path).end(own=0.0)
    assert set(facts["absent"]) >= {"frequency_mhz", "governor", "temperature", "throttled"}
    assert notes == ()
    assert "quota" not in facts


def test_this_machine_can_be_read() -> None:
    facts, _ = machine.Watch().end(own=0.0)
    assert facts["cores"] >= 1
    assert facts["usable"] >= 1


def test_cooling_of_a_board_is_said(tmp_path: Path) -> None:
    thermal = "sys/class/thermal"
    root = write(
        tmp_path,
        {
            f"{thermal}/cooling_device0/type": "cpufreq-cpu0\n",
            f"{thermal}/cooling_device0/cur_state": "2\n",
            f"{thermal}/cooling_device1/type": "pwm-fan\n",
            f"{thermal}/cooling_device1/cur_state": "1\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        },
    )
    facts, notes = machine.Watch(root).end(own=0.0)
    assert facts["cooling"] == "cpufreq-cpu0, the firmware's 50005"
    assert len(notes) == 1
    write(root, {f"{thermal}/cooling_device0/cur_state": "0\n"})
    # What happened since the board was started, in the upper bits, is over.
    write(root, {"sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n"})
    assert machine.Watch(root).end(own=0.0)[1] == ()
