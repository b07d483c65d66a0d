"""Goes to the board: one line of JSON of what it has, from any Python that there may be."""

import ctypes
import importlib
import json
import os
import platform
import sys

RUNTIMES = ("ai_edge_litert", "tflite_runtime", "tensorflow", "pycoral", "openvino")
STICKS = (("1a6e", "089a"), ("18d1", "9302"))


def version_of(name):
    # type: (str) -> object
    """Its version, or why it can't be had; None where it isn't there. Metadata first: importing
    TensorFlow takes a board half a minute."""
    try:
        from importlib import metadata, util

        if util.find_spec(name) is None:
            return None
        return metadata.version(name.replace("_", "-"))
    except Exception:
        try:
            return str(getattr(importlib.import_module(name), "__version__", "?"))
        except ImportError as error:
            return None if getattr(error, "name", name) == name else "broken: %s" % error
        except Exception as error:
            return "broken: %s" % error


def read(path):
    # type: (str) -> str
    try:
        with open(path) as file:
            return file.read().replace("\0", "").strip()
    except (OSError, IOError, UnicodeDecodeError):
        return ""


def loads(library):
    # type: (str) -> bool
    try:
        ctypes.CDLL(library)
        return True
    except OSError:
        return False


def sticks():
    # type: () -> list[dict[str, object]]
    """Edge TPUs: their node, and whether it may be opened."""
    found, root = [], "/sys/bus/usb/devices"
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        at = os.path.join(root, name)
        if (read(at + "/idVendor"), read(at + "/idProduct")) in STICKS:
            node = "/dev/bus/usb/%03d/%03d" % (int(read(at + "/busnum")), int(read(at + "/devnum")))
            found.append({"node": node, "open": os.access(node, os.R_OK | os.W_OK)})
    for name in sorted(os.listdir("/dev")) if os.path.isdir("/dev") else []:
        if name.startswith("apex_"):
            node = "/dev/" + name
            found.append({"node": node, "open": os.access(node, os.R_OK | os.W_OK)})
    return found


def space():
    # type: () -> object
    folder = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] else os.path.expanduser("~")
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    try:
        there = os.statvfs(folder)
    except OSError:
        return None
    return {"folder": folder, "free": there.f_bavail * there.f_frsize,
            "writable": os.access(folder, os.W_OK)}  # fmt: skip


def memory():
    # type: () -> object
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def main():
    # type: () -> None
    facts = {
        "python": platform.python_version(),
        "executable": sys.executable,
        "machine": platform.machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "system": "%s %s" % (platform.system(), platform.release()),
        "board": read("/proc/device-tree/model"),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "cores": getattr(os, "cpu_count", int)(),
        "memory": memory(),
        "space": space(),
        "numpy": version_of("numpy"),
        "runtimes": {n: v for n, v in ((n, version_of(n)) for n in RUNTIMES) if v},
        "edgetpu_library": loads("libedgetpu.so.1"),
        "edgetpus": sticks(),
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
