"""Which devices OpenVINO has here, what they can do, and what keeps the others away."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any

from edgepipe.errors import DeviceMissing, UnknownName

CPU, GPU, NPU, AUTO = "CPU", "GPU", "NPU", "AUTO"
REAL = (CPU, GPU, NPU)
VIRTUAL = (AUTO, "HETERO", "MULTI")
"""AUTO takes the best one there is, HETERO shares a model out, MULTI shares requests out."""
DRIVERS = {
    CPU: "OpenVINO's CPU plugin lies in the package itself: edgepipe toolchain check openvino.",
    GPU: "install Intel's GPU driver (Debian, Ubuntu: intel-opencl-icd, or it is in"
    " https://github.com/intel/compute-runtime), and let your user into the group render.",
    NPU: "install Intel's NPU driver (https://github.com/intel/linux-npu-driver; the kernel's part"
    " is intel_vpu), and let your user into the group render.",
}
NODES = {GPU: ("/dev/dri", "renderD*"), NPU: ("/dev/accel", "accel*")}
"""What the kernel shows where it drives such a device."""
_LIBRARY = re.compile(r"([\w.+-]+\.so[\w.]*): cannot open shared object file")


def normalised(device: str) -> str:
    """In OpenVINO's capitals; '' is the CPU."""
    return device.strip().upper() or CPU


def parts(device: str) -> list[str]:
    """The devices that are named: of `HETERO:GPU.1,CPU` two; of a bare AUTO none."""
    head, colon, tail = normalised(device).partition(":")
    if head not in VIRTUAL:
        return [normalised(device)]
    return [part.strip() for part in tail.split(",") if part.strip()] if colon else []


def families(device: str) -> list[str]:
    """CPU, GPU, NPU: the kinds of what is named."""
    return [part.partition(".")[0] for part in parts(device)]


def check_name(device: str) -> str:
    """OpenVINO's form of a device's name, which may not be there; a typo is an error."""
    head = normalised(device).partition(":")[0]
    wanted = [*(parts(device) if head in VIRTUAL else [head])]
    for part in wanted:
        family = part.partition(".")[0]
        if family not in REAL and (head in VIRTUAL or part not in VIRTUAL):
            raise UnknownName.of("device of OpenVINO", part, (*REAL, *VIRTUAL))
    if head in ("HETERO", "MULTI") and not wanted:
        raise UnknownName.of("device of OpenVINO", normalised(device), (f"{head}:GPU,CPU", AUTO))
    return normalised(device)


def is_name(device: str) -> bool:
    """Whether it begins like one of OpenVINO's, rather than like an Edge TPU's."""
    return normalised(device).partition(":")[0].partition(".")[0] in (*REAL, *VIRTUAL)


def check(core: Any, device: str) -> str:
    """The name for `compile_model`. Raises DeviceMissing with what is there, and why it isn't."""
    name = check_name(device)
    there = list(core.available_devices)
    for part in parts(name):
        # Of a single one, OpenVINO lists GPU and takes GPU.0, too.
        if part in there or f"{part}.0" in there or part.removesuffix(".0") in _alone(there):
            continue
        family = part.partition(".")[0]
        if family in {each.partition(".")[0] for each in there}:
            why, help = f"there is no such {family}", f"take one of {', '.join(there)}, or AUTO."
        else:
            why, help = absence(core, family), DRIVERS[family]
        raise DeviceMissing(
            f"OpenVINO has no {part} here: {why}. It has {_listed(core, there)}",
            hint=help,
            device=part,
            devices=there,
        )
    return name


def _alone(there: list[str]) -> list[str]:
    return [each for each in there if "." not in each and each != CPU]


def _listed(core: Any, there: list[str]) -> str:
    return ", ".join(f"{each} ({core.get_property(each, 'FULL_DEVICE_NAME')})" for each in there)


def absence(core: Any, family: str) -> str:
    """Why a kind of device isn't there, as far as OpenVINO and the kernel say it."""
    said = ""
    try:
        core.get_property(family, "AVAILABLE_DEVICES")
    except RuntimeError as error:
        library = _LIBRARY.search(str(error))
        said = f"its plugin needs {library[1]}, which isn't installed" if library else _last(error)
    kernel = _kernel(family)
    return "; ".join(one for one in (said, kernel) if one) or "its driver shows none"


def _kernel(family: str) -> str:
    if family not in NODES:
        return ""
    folder, pattern = NODES[family]
    nodes = sorted(Path(folder).glob(pattern)) if Path(folder).is_dir() else []
    if not nodes:
        return f"the kernel shows none ({folder}/{pattern})"
    if not any(os.access(node, os.R_OK | os.W_OK) for node in nodes):
        return f"this user may not open {nodes[0]}"
    return ""


def _last(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or ["it said nothing"])[-1]


def require(device: str) -> None:
    """For a worker: `check` before the first long step."""
    check(importlib.import_module("openvino").Core(), device)


def listing() -> dict[str, Any]:
    """For a worker: every kind of device, there or not, and OpenVINO's version."""
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    there = list(core.available_devices)
    found = [{"name": name, "available": True, **_facts(core, name)} for name in there]
    for family in REAL:
        if family not in {each.partition(".")[0] for each in there}:
            why, help = absence(core, family), DRIVERS[family]
            found.append({"name": family, "available": False, "why": why, "help": help})
    found.sort(key=lambda one: _place(str(one["name"])))
    return {"openvino": openvino.__version__, "devices": found, "auto": there}


def _place(name: str) -> int:
    family = name.partition(".")[0]
    return REAL.index(family) if family in REAL else len(REAL)


def _facts(core: Any, name: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for key in core.get_property(name, "SUPPORTED_PROPERTIES"):
        # One of them has a value without a Python type (2026.4: COMPATIBILITY_CHECK).
        try:
            properties[str(key)] = plain(core.get_property(name, str(key)))
        except (RuntimeError, TypeError):
            continue
    properties.pop("SUPPORTED_PROPERTIES", None)
    return {
        "full_name": properties.get("FULL_DEVICE_NAME", ""),
        "capabilities": properties.get("OPTIMIZATION_CAPABILITIES", []),
        "streams": properties.get("RANGE_FOR_STREAMS"),
        "properties": properties,
    }


def plain(value: Any) -> Any:
    """A property as JSON has it."""
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    name = getattr(value, "name", None)  # An enumeration's.
    if isinstance(name, str):
        return name
    text = getattr(value, "to_string", None)
    return str(text() if callable(text) else value)
