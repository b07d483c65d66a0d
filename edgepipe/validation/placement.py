"""What really ran where: the operators by device, and whether a device was asked for in vain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgepipe.validation.evidence import Gate, Placement, Verdict

SAME = {
    "CUDA": "GPU",
    "TENSORRT": "GPU",
    "EDGETPU": "TPU",
    "EDGE": "TPU",
    "USB": "TPU",
    "PCI": "TPU",
}
"""Names of one kind of device, by their first word; `GPU.1` and `:0` are said by number."""
CHOOSES = ("AUTO", "HETERO", "MULTI")
"""OpenVINO's devices that take what there is: whatever came of that was asked for."""


def placed(asked: str, rows: Sequence[Mapping[str, Any]]) -> Placement | None:
    """`asked` is the subject's device, '' for the runner's own. None where nothing is known."""
    if not rows:
        return None
    by_device = Counter(str(row["device"]) for row in rows)
    wanted = _wanted(asked, list(by_device))
    if wanted is None:
        device = by_device.most_common(1)[0][0]
        return Placement(device, by_device[device], len(rows), tuple(map(dict, rows)))
    on_device = sum(count for device, count in by_device.items() if kind(device) == wanted)
    fell_back = ""
    if not on_device:
        took = ", ".join(f"{count} on {device}" for device, count in by_device.most_common())
        fell_back = f"{asked} was asked for, and none of {len(rows)} operators ran there: {took}"
    device = asked or next(name for name in by_device if kind(name) == wanted)
    return Placement(device, on_device, len(rows), tuple(map(dict, rows)), fell_back)


def _wanted(asked: str, devices: Sequence[str]) -> str | None:
    """The kind of device that was asked for; None where it was left to the runtime."""
    if any(kind(device) == "TPU" for device in devices):
        return "TPU"  # A compiled file is for nothing else.
    name = kind(asked)
    return None if not asked or name in CHOOSES else name


def kind(device: str) -> str:
    """CPU, GPU, NPU, TPU: of `GPU.1`, `cuda:0`, `CPU, XNNPACK`, `Edge TPU`."""
    first = device.replace(",", " ").replace(":", " ").replace(".", " ").upper().split()
    name = first[0] if first else ""
    return SAME.get(name, name)


def words(placement: Placement) -> str:
    """One line: `72 of 73 operators on CPU, XNNPACK; 1 on CPU, LiteRT's own kernels`."""
    if placement.fell_back:
        return placement.fell_back
    devices = Counter(str(row["device"]) for row in placement.rows)
    if placement.rows and all(row["op"] == "output" for row in placement.rows):
        return f"its outputs come from {', '.join(sorted(devices))}"
    wanted = _wanted(placement.device, list(devices))
    there = [name for name in devices if kind(name) == wanted]
    there = [placement.device] if placement.device in devices else there
    elsewhere = [f"{count} on {name}" for name, count in devices.most_common() if name not in there]
    on = f"{placement.on_device} of {placement.ops} operators on {placement.device}"
    return "; ".join([on, *elsewhere]) if placement.on_device < placement.ops else on


def device_gate(placement: Placement) -> Gate | None:
    """Fails where a device was asked for and not one operator ran there; None where none was."""
    if not placement.fell_back:
        return None
    return Gate(
        "device", placement.device, f"0 of {placement.ops} operators", Verdict.FAILED,
        placement.fell_back,
    )  # fmt: skip


def mapped_gate(placement: Placement | None, least: float, name: str = "min-mapped") -> Gate:
    """The least share of operators that must run on the device, from 0 to 1."""
    asked = f"{least:.0%}"
    if placement is None:
        return Gate(
            name, asked, "-", Verdict.UNDECIDED,
            "the runtime doesn't tell where its operators ran",
        )  # fmt: skip
    share = placement.on_device / placement.ops if placement.ops else 0.0
    met = share >= least and not placement.fell_back
    seen = f"{share:.1%}"
    return Gate(
        name, asked, seen, Verdict.PASSED if met else Verdict.FAILED,
        f"{words(placement)}: {seen}, {'at least' if met else 'less than'} {asked}",
    )  # fmt: skip
