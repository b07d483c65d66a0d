"""libedgetpu, the Edge TPU's driver: found, asked for its version and devices, loaded."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepipe.errors import OptionError, ToolMissing

VARIABLE = "EDGEPIPE_LIBEDGETPU"
NAMES = {"Linux": "libedgetpu.so.1", "Darwin": "libedgetpu.1.dylib"}
INSTALL = (
    "install libedgetpu1-std from coral.ai, or a build of it for your TensorFlow Lite"
    f" (docs/edgetpu.md); {VARIABLE}=/path/to/libedgetpu.so.1 names one"
)
KINDS = ("pci", "usb")
"""As libedgetpu's edgetpu_c.h numbers them."""
DEVICE = re.compile(r"(?:usb|pci)(?::\d+)?|:\d+")
USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}
"""Before and after its firmware was loaded."""


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("path", ctypes.c_char_p)]


@dataclass(frozen=True)
class Library:
    """One that was loaded. `runtime` is None where it doesn't say its version."""

    path: str
    words: str
    runtime: int | None
    devices: tuple[tuple[str, str], ...]

    def check_version(self, needed: int, model: str) -> None:
        """Refuse what it would only refuse with a number, or crash over."""
        if self.runtime is not None and needed > self.runtime:
            raise ToolMissing(
                f"{model} needs version {needed} of the Edge TPU runtime, and {self.path} is"
                f" version {self.runtime}",
                hint=f"a newer libedgetpu, or compile for this one: --min-runtime-version"
                f" {self.runtime}.",
            )

    def check_device(self, wanted: str) -> None:
        """Refuse a device that isn't there, with the likely reason."""
        if not DEVICE.fullmatch(wanted):
            raise OptionError(
                f"--device takes usb, pci, usb:0, pci:1 or :0, received {wanted!r}",
                hint=f"there are: {self.device_words()}.",
            )
        kind, _, number = wanted.partition(":")
        fitting = [path for known, path in self.devices if kind in ("", known)]
        if len(fitting) > int(number or 0):
            return
        raise ToolMissing(
            f"no Edge TPU {wanted!r}: libedgetpu sees {self.device_words()}",
            hint=out_of_reach()
            or "is it plugged in? `lsusb` shows 1a6e:089a or 18d1:9302 for the"
            " USB one, `ls /dev/apex_*` the PCIe one.",
        )

    def device_words(self) -> str:
        return ", ".join(f"{kind} at {path}" for kind, path in self.devices) or "none"


def probe(device: str) -> dict[str, Any]:
    """For the parent, before any work: the library, and whether the device is there."""
    found = open_library()
    found.check_device(device)
    return {"library": found.path, "version": found.words, "devices": found.devices}


def open_library() -> Library:
    name = os.environ.get(VARIABLE) or NAMES.get(platform.system(), NAMES["Linux"])
    try:
        loaded = ctypes.CDLL(name)
        loaded.edgetpu_version.restype = ctypes.c_char_p
        words = (loaded.edgetpu_version() or b"").decode("utf-8", "replace")
    except OSError as error:
        raise ToolMissing(f"libedgetpu can't be loaded: {error}", hint=INSTALL) from error
    except AttributeError as error:
        raise ToolMissing(f"{name} is no libedgetpu: {error}", hint=INSTALL) from error
    found = re.search(r"RuntimeVersion\((\d+)\)", words)
    return Library(name, words, int(found[1]) if found else None, _devices(loaded))


def _devices(loaded: Any) -> tuple[tuple[str, str], ...]:
    count = ctypes.c_size_t(0)
    loaded.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
    loaded.edgetpu_free_devices.argtypes = [ctypes.POINTER(_Device)]
    listed = loaded.edgetpu_list_devices(ctypes.byref(count))
    found = tuple(
        (KINDS[listed[i].kind], (listed[i].path or b"").decode("utf-8", "replace"))
        for i in range(count.value)
        if 0 <= listed[i].kind < len(KINDS)
    )
    if listed:
        loaded.edgetpu_free_devices(listed)
    return found


def out_of_reach(root: Path = Path("/")) -> str:
    """Where the system sees a device that this user may not open: what would change that."""
    for place in (root / "sys/bus/usb/devices").glob("*"):
        if _ids(place) in USB_IDS:
            bus, number = (_text(place / name) for name in ("busnum", "devnum"))
            node = root / "dev/bus/usb" / bus.zfill(3) / number.zfill(3)
            if not node.exists():
                return f"one is on the USB bus, and {node} isn't here: pass it into the container."
            if not os.access(node, os.R_OK | os.W_OK):
                return (
                    f"one is on the USB bus, and {node} may not be opened by you: join the group"
                    " plugdev (`sudo usermod -aG plugdev $USER`, then log in anew), with"
                    " libedgetpu's udev rule installed."
                )
    for node in sorted((root / "dev").glob("apex_*")):
        if not os.access(node, os.R_OK | os.W_OK):
            return (
                f"{node} may not be opened by you: join the group apex (`sudo usermod -aG apex"
                " $USER`, then log in anew), with gasket's udev rule installed."
            )
    return ""


def _ids(place: Path) -> tuple[str, str]:
    return _text(place / "idVendor"), _text(place / "idProduct")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def interpreter_module() -> Any:
    """LiteRT, or the runtime that the real pycoral brings along."""
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    if is_foreign_pycoral():
        raise ToolMissing(
            "the package pycoral that is installed is PyPI's, a tool for coral reefs, and not the"
            " Edge TPU's library of that name",
            hint="`pip uninstall pycoral`, then `pip install ai-edge-litert`: no pycoral is needed."
            " The real one comes from Coral's own index.",
        )
    raise ToolMissing(
        "no LiteRT is installed to run a compiled model",
        hint="`edgepipe toolchain install edge`, or `pip install ai-edge-litert`.",
    )


def is_foreign_pycoral() -> bool:
    """Whether a pycoral is installed that drives no Edge TPU. It is looked at, not imported."""
    spec = importlib.util.find_spec("pycoral")
    if spec is None:
        return False
    places = spec.submodule_search_locations or ()
    return not any((Path(place) / "utils" / "edgetpu.py").is_file() for place in places)
