"""Runs an edgepipe bundle on the board that holds it.

A person types: python3 run_on_device.py model.edgebundle. One file, which needs Python 3.7 or
newer, numpy, and one runtime out of ai_edge_litert, tflite_runtime, tensorflow, pycoral and
openvino. It compares each model in the bundle with the host and with the float model, measures
accuracy, latency, memory and heat, prints a table, and writes JSON and JUnit. With pytest beside
it: pytest -p run_on_device --edgebundle FILE. Exit codes: 0 done, 1 a bug of this file, 2 bad
usage or bundle, 3 something is missing, 4 a model failed, 5 worse than the limits.
"""

NEEDS: str = "This needs Python 3.7 or newer. Run it with python3."
# Python 2 stops at the line above and prints it; everything from here on parses from 3.6 on.
import sys  # noqa: E402

if sys.version_info < (3, 7):
    sys.stderr.write(f"{NEEDS} This is Python {sys.version.split()[0]}, in {sys.executable}.\n")
    sys.exit(3)

import argparse  # noqa: E402
import contextlib  # noqa: E402
import ctypes  # noqa: E402
import hashlib  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import re  # noqa: E402
import signal  # noqa: E402
import tempfile  # noqa: E402
import textwrap  # noqa: E402
import time  # noqa: E402
import zipfile  # noqa: E402
from typing import Any, Dict, IO, Iterator, List, Optional, Tuple  # noqa: E402

SCHEMA = 1
CHECKS = ("load", "delegate", "host", "reference", "accuracy", "latency", "memory", "heat")
PASSED, FAILED, UNDECIDED, SKIPPED, SEEN = "passed", "failed", "undecided", "skipped", "seen"
BUG, USAGE, MISSING, BROKE, WORSE = 1, 2, 3, 4, 5
KEY_VARIABLE, PUBLIC_VARIABLE = "EDGEPIPE_BUNDLE_KEY", "EDGEPIPE_BUNDLE_PUBLIC_KEY"
CODER = "python3 -m pip install cryptography, or: sudo apt install python3-cryptography"
MOST_STEPS_SHOWN = 8
SECONDS_OF_RUNS = 10.0
Json = Dict[str, Any]


class Stop(Exception):
    """What keeps it from going on: what was expected and what came, and what to do."""

    def __init__(self, code: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


# The bundle


class Bundle:
    """A zip whose manifest lists every file with its size and SHA-256. Nothing is unpacked."""

    def __init__(self, path: str, key: str = "", public_key: str = "") -> None:
        self.path = path
        self._key = read_secret(key, KEY_VARIABLE)
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise Stop(USAGE, f"{path} can't be read: {error.strerror}", "is it there?") from error
        try:
            self.zip = zipfile.ZipFile(path)
            text = self.zip.read("manifest.json")
            self.manifest: Json = json.loads(text.decode("utf-8"))
        except Exception as error:  # zipfile and zlib raise whatever damage brings up.
            size = os.path.getsize(path)
            raise Stop(
                USAGE,
                f"{path} is truncated or no edgepipe bundle ({size:,} bytes): {error}",
                "copy it again, and compare: sha256sum FILE on both sides.",
            ) from error
        if not isinstance(self.manifest, dict) or self.manifest.get("kind") != "edgepipe bundle":
            raise Stop(
                USAGE, f"{path} is a zip, but no edgepipe bundle", "make one: edgepipe bundle."
            )
        if int(self.manifest.get("schema", 0)) > SCHEMA:
            raise Stop(
                USAGE,
                f"{path} is of schema {self.manifest['schema']}, this file reads {SCHEMA}",
                "take the run_on_device.py that is in the bundle: unzip FILE run_on_device.py",
            )
        self.signed = self._check_signature(text, public_key)
        try:
            self._check_files()
        except (KeyError, TypeError, AttributeError) as error:
            raise Stop(
                USAGE,
                f"{path}: its manifest lacks what it should hold: {error}",
                "bundle it again.",
            ) from error

    def _check_signature(self, text: bytes, public_key: str) -> str:
        given = read_secret(public_key, PUBLIC_VARIABLE)
        if not given:
            return "signed, not checked" if "manifest.sig" in self.zip.namelist() else "unsigned"
        if "manifest.sig" not in self.zip.namelist():
            raise Stop(
                USAGE,
                f"{self.path} is not signed, and a public key was given",
                "sign it: edgepipe bundle ... --sign KEY.",
            )
        serialization = cryptography("hazmat.primitives.serialization")
        try:
            key = serialization.load_pem_public_key(given)
            key.verify(self.zip.read("manifest.sig"), text)
        except Exception as error:
            if type(error).__name__ != "InvalidSignature":
                raise Stop(USAGE, f"the public key can't be read: {error}") from error
            raise Stop(
                USAGE,
                f"{self.path} was changed, or signed with another key: its signature is wrong",
                "take the bundle from where it was made, or the public key that belongs to it.",
            ) from error
        return "signature checked"

    def _check_files(self) -> None:
        listed = self.manifest["files"]
        free = {"manifest.json", "manifest.sig"}
        there = {item.filename: item.file_size for item in self.zip.infolist()}
        changed = sorted(set(there) - free - set(listed))
        for name, facts in listed.items():
            if there.get(name) != facts["size"]:
                changed.append(name)
                continue
            hasher = hashlib.sha256()
            try:
                with self.zip.open(name) as file:
                    for piece in iter(lambda f=file: f.read(1 << 18), b""):  # type: ignore[misc]
                        hasher.update(piece)
            except Exception as error:  # As above.
                raise Stop(
                    USAGE, f"{self.path}: {name} is damaged: {error}", "copy it again."
                ) from error
            if hasher.hexdigest() != facts["sha256"]:
                changed.append(name)
        if changed:
            raise Stop(
                USAGE,
                f"{self.path} was changed after it was made: {', '.join(changed[:4])}",
                "copy it again from where it was made.",
            )

    def reopen(self) -> None:
        """In a child: its parent's file has one place for both of them."""
        self.zip = zipfile.ZipFile(self.path)

    def model(self, model: Json, part: str = "model") -> bytes:
        """A model's bytes, in memory only where it is encrypted."""
        name = model["files"][part]
        content = self.zip.read(name)
        if not model.get("encrypted"):
            return content
        if not self._key:
            raise Stop(
                USAGE,
                f"{model['name']} is encrypted and no key was given",
                f"--key FILE, or the key in the environment variable {KEY_VARIABLE}.",
            )
        aead = cryptography("hazmat.primitives.ciphers.aead")
        try:
            plain: bytes = aead.AESGCM(read_key(self._key)).decrypt(
                content[:12], content[12:], name.encode()
            )
        except ValueError as error:
            raise Stop(
                USAGE, f"the key is none: {error}", "it is 64 hexadecimal digits."
            ) from error
        except Exception as error:
            raise Stop(
                USAGE, f"{model['name']} can't be decrypted: the key is another one"
            ) from error
        return plain

    def rows(self, name: str) -> Iterator[Any]:
        """The rows of an array, one at a time: all of them may not fit in memory."""
        import numpy as np

        with self.zip.open(name) as file:
            version = np.lib.format.read_magic(file)
            read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
            shape, _, dtype = read(file)
            size = product(shape[1:]) * dtype.itemsize
            for _ in range(shape[0]):
                yield np.frombuffer(read_exactly(file, size), dtype).reshape(shape[1:])


def read_exactly(file: Any, size: int) -> bytes:
    pieces = []
    while size:
        piece = file.read(size)
        if not piece:
            raise Stop(USAGE, "the bundle ends in the middle of its samples", "copy it again.")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def read_secret(path: str, variable: str) -> bytes:
    """A key from a file, or from the environment. It is never shown."""
    if path:
        try:
            with open(path, "rb") as file:
                return file.read().strip()
        except OSError as error:
            raise Stop(USAGE, f"the key file {path} can't be read: {error.strerror}") from error
    return os.environ.get(variable, "").strip().encode()


def read_key(text: bytes) -> bytes:
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError("not hexadecimal") from error
    if len(key) != 32:
        raise ValueError(f"{len(key)} bytes instead of 32")
    return key


def cryptography(module: str) -> Any:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of Pythons that it will leave behind.
            return importlib.import_module(f"cryptography.{module}")
    except ImportError as error:
        raise Stop(
            MISSING, f"a key was given, and cryptography can't be imported: {error}", CODER
        ) from error


# The board


def read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().replace("\0", "").strip()
    except OSError:
        return ""


def board() -> Json:
    """What can be read of this machine, without rights and without a tool."""
    cpu = read_text("/proc/cpuinfo")
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpu, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpu, re.M)
    known = (
        "asimd",
        "asimddp",
        "i8mm",
        "sve",
        "avx2",
        "avx512_vnni",
        "avx_vnni",
        "amx_int8",
        "neon",
    )
    frequency = "/sys/devices/system/cpu/cpu0/cpufreq/"
    total, available = memory_of_machine()
    return {
        "host": platform.node(),
        "board": read_text("/proc/device-tree/model"),
        "cpu": found.group(1).strip() if found else platform.processor() or platform.machine(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "features": [name for name in known if flags and name in flags.group(1).split()],
        "governor": read_text(frequency + "scaling_governor"),
        "khz": read_text(frequency + "scaling_cur_freq"),
        "khz_most": read_text(frequency + "cpuinfo_max_freq"),
        "load": read_text("/proc/loadavg").split(" ")[0],
        "memory": total,
        "memory_available": available,
        "system": " ".join(platform.uname()[0:3:2]),
        "python": platform.python_version(),
        "edgetpus": edgetpus(),
    }


def memory_of_machine() -> Tuple[int, int]:
    """Bytes of all memory, and of what can be had; a container's limit counts."""
    found = re.findall(r"^(\w+):\s*(\d+) kB", read_text("/proc/meminfo"), re.M)
    lines: Dict[str, str] = dict(found)
    total = int(lines.get("MemTotal") or 0) * 1024
    available = int(lines.get("MemAvailable") or lines.get("MemFree") or 0) * 1024
    for most, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        limit = read_text(most)
        if limit.isdigit() and 0 < int(limit) < total:
            total = int(limit)
            available = min(available, total - int(read_text(used) or 0))
    return total, available


def edgetpus() -> List[str]:
    """USB sticks before and after their firmware was loaded, and PCIe ones."""
    found = []
    root = "/sys/bus/usb/devices"
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        ids = tuple(read_text(f"{root}/{name}/{part}") for part in ("idVendor", "idProduct"))
        if ids in (("1a6e", "089a"), ("18d1", "9302")):
            bus, number = (read_text(f"{root}/{name}/{part}") for part in ("busnum", "devnum"))
            found.append(f"/dev/bus/usb/{bus.zfill(3)}/{number.zfill(3)}")
    nodes = sorted(os.listdir("/dev")) if os.path.isdir("/dev") else []
    return found + [f"/dev/{name}" for name in nodes if name.startswith("apex_")]


def why_no_edgetpu() -> str:
    """What keeps the Edge TPU from being used, and what to do."""
    nodes = edgetpus()
    for node in nodes:
        if not os.path.exists(node):
            return f"one is on the USB bus, and {node} is not here: pass it into the container."
        if not os.access(node, os.R_OK | os.W_OK):
            group, rules = ("apex", "gasket") if "apex" in node else ("plugdev", "libedgetpu")
            return (
                f"{node} may not be opened by you: sudo usermod -aG {group} $USER, then log in"
                f" anew; {rules}'s udev rule must be installed, and sudo udevadm trigger run once."
            )
    if nodes:
        return "another program may hold it, or it hangs: end that program, or plug it in again."
    return "none is on the USB or PCIe bus: is it plugged in? lsusb shows 1a6e:089a or 18d1:9302."


class Heat:
    """Temperatures and throttling, as far as they can be read; the highest of what was seen."""

    def __init__(self) -> None:
        self.first = self.temperatures()
        self.highest: Dict[str, float] = dict(self.first)
        self.throttled = self.throttling()

    @staticmethod
    def temperatures() -> Dict[str, float]:
        found = {}
        for root, value, scale in (
            ("/sys/class/thermal", "temp", 1000.0),
            ("/sys/class/apex", "temp", 1000.0),
        ):
            for name in sorted(os.listdir(root)) if os.path.isdir(root) else []:
                text = read_text(f"{root}/{name}/{value}")
                if re.fullmatch(r"-?\d+", text):
                    kind = read_text(f"{root}/{name}/type")
                    found[kind if kind and kind not in found else name] = int(text) / scale
        return found

    @staticmethod
    def throttling() -> Optional[int]:
        """The Raspberry Pi's flags: now in the low bits, since it started in the high ones."""
        text = read_text("/sys/devices/platform/soc/soc:firmware/get_throttled")
        if not text:
            with contextlib.suppress(OSError, ValueError):
                import subprocess

                done = subprocess.run(
                    ["vcgencmd", "get_throttled"],
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5,
                )  # fmt: skip
                text = done.stdout.decode("ascii", "replace").strip().partition("=")[2]
        try:
            return int(text, 16)
        except ValueError:
            return None

    def look(self) -> None:
        for name, value in self.temperatures().items():
            self.highest[name] = max(value, self.highest.get(name, value))

    def end(self) -> Json:
        self.look()
        flags = self.throttling()
        names = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
        now = [name for bit, name in enumerate(names) if flags and flags >> bit & 1]
        past = [name for bit, name in enumerate(names) if flags and flags >> (16 + bit) & 1]
        return {
            "first": self.first,
            "highest": self.highest,
            "throttled": None if flags is None else now,
            "throttled_since_boot": None if flags is None else past,
        }


def own_memory(name: str) -> int:
    """VmHWM, the most that this process took so far, or VmRSS; 0 where there is no /proc."""
    found = re.search(rf"^{name}:\s*(\d+) kB", read_text("/proc/self/status"), re.M)
    return int(found.group(1)) * 1024 if found else 0


def forget_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


# The runtimes


LITERTS = (
    ("ai_edge_litert", "ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime", "tflite_runtime.interpreter", "tflite-runtime"),
    ("tensorflow", "tensorflow", "tensorflow"),
)
"""Package, module, distribution; pycoral brings tflite_runtime along."""
FORMS = {
    "tflite": [name for name, _, _ in LITERTS],
    "edgetpu": [name for name, _, _ in LITERTS],
    "openvino": ["openvino"],
}
LIBRARIES = {"Linux": "libedgetpu.so.1", "Darwin": "libedgetpu.1.dylib", "Windows": "edgetpu.dll"}


def installed() -> List[str]:
    """Which runtimes are here; found, not imported."""
    from importlib.util import find_spec

    names = [name for name, _, _ in LITERTS] + ["pycoral", "openvino"]
    return [name for name in names if find_spec(name) is not None]


def how_to_install(form: str) -> str:
    new = sys.version_info >= (3, 10) and sys.maxsize > 2**32
    name = "openvino" if form == "openvino" else "ai-edge-litert" if new else "tflite-runtime"
    line = f"{sys.executable} -m pip install {name}"
    if name == "tflite-runtime":
        line += ' "numpy<2"'
        if sys.version_info >= (3, 12):
            line += ", whose wheels are for Python 3.7 to 3.11: take such a Python"
    if os.path.exists(f"{sys.prefix}/EXTERNALLY-MANAGED") or not os.access(sys.prefix, os.W_OK):
        line = f"{line}; where pip refuses: python3 -m venv --system-site-packages ~/edge, then"
        line += f" ~/edge/bin/python -m pip install {name}"
    return line


def import_runtime(form: str, wanted: str) -> Tuple[str, Any, str]:
    """Name, module and version of the first runtime that is there and can be imported."""
    names = [wanted] if wanted else FORMS[form]
    if wanted and wanted not in FORMS[form]:
        raise Stop(
            MISSING, f"{wanted} doesn't run {form} models", f"one of: {', '.join(FORMS[form])}."
        )
    reasons = []
    modules = {name: (module, dist) for name, module, dist in LITERTS}
    modules["openvino"] = ("openvino", "openvino")
    for name in names:
        module, distribution = modules[name]
        try:
            loaded = importlib.import_module(module)
        except ImportError as error:
            if name in installed():
                reasons.append(f"{name} is installed and can't be imported: {error}")
            continue
        except Exception as error:  # An extension of another numpy raises what it likes.
            reasons.append(f"{name} can't be imported: {type(error).__name__}: {error}")
            continue
        # tf.lite is an attribute; the package tensorflow.lite is another one, without it. And
        # OpenVINO before 2023.1 has all of it in openvino.runtime.
        loaded = getattr(loaded, "lite", loaded)
        if name == "openvino" and not hasattr(loaded, "Core"):
            loaded = importlib.import_module("openvino.runtime")
        return name, loaded, version_of(distribution, name)
    hint = how_to_install(form)
    if any("numpy" in text or "_ARRAY_API" in text for text in reasons):
        hint = f'it was built for another numpy: {sys.executable} -m pip install "numpy<2"'
    elif any("GLIBC" in text for text in reasons):
        hint = "it was built for a newer system: an older version of it, or a newer system."
    told = "; ".join(reasons) or f"no runtime for {form} models is installed"
    if is_foreign_pycoral():
        told += "; the pycoral that is here is a tool for coral reefs, not the Edge TPU's"
    raise Stop(MISSING, told, hint)


def is_foreign_pycoral() -> bool:
    """PyPI has a package of that name which drives no Edge TPU. It is looked at, not imported."""
    from importlib.util import find_spec

    spec = find_spec("pycoral")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    return bool(places) and not os.path.exists(f"{places[0]}/utils/edgetpu.py")


def version_of(distribution: str, package: str) -> str:
    try:
        from importlib.metadata import version  # Python 3.8 on

        return str(version(distribution))
    except Exception:
        return str(getattr(importlib.import_module(package), "__version__", "unknown"))


class Litert:
    """LiteRT's interpreter, by whatever name it is installed, with its delegates."""

    def __init__(
        self, module: Any, model: Json, content: bytes, args: argparse.Namespace, keep: bool = False
    ) -> None:
        self.asked = args.delegate
        if self.asked == "auto" and model["form"] == "edgetpu":
            self.asked = "edgetpu"
        self.library = ""
        settings: Json = {"num_threads": args.threads or None}
        kinds = getattr(module, "OpResolverType", None) or getattr(
            getattr(module, "experimental", None), "OpResolverType", None
        )
        resolver = {"none": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
        if self.asked in resolver:
            settings["experimental_op_resolver_type"] = getattr(kinds, resolver[self.asked])
        elif self.asked not in ("auto", "xnnpack"):
            settings["experimental_delegates"] = [self._delegate(module, model, args)]
        if keep:
            settings["experimental_preserve_all_tensors"] = True
        make = module.Interpreter
        try:
            self.interpreter = make(model_content=content, **settings)
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError, TypeError) as error:
            raise Stop(BROKE, f"the runtime can't load it: {error}", why(str(error))) from error
        self.inputs = self._match(model["inputs"], self.interpreter.get_input_details())
        self.outputs = self._match(model["outputs"], self.interpreter.get_output_details())

    def _delegate(self, module: Any, model: Json, args: argparse.Namespace) -> Any:
        """libedgetpu, or the library that was named."""
        chip = self.asked == "edgetpu"
        self.library = LIBRARIES.get(platform.system(), LIBRARIES["Linux"]) if chip else self.asked
        self.library = os.environ.get("EDGEPIPE_LIBEDGETPU", self.library) if chip else self.library
        options = {}
        for item in args.delegate_option:
            name, equals, value = item.partition("=")
            if not equals:
                raise Stop(USAGE, f"--delegate-option takes NAME=VALUE, received {item!r}")
            options[name] = value
        if chip:
            check_edgetpu_version(self.library, model)
            options.setdefault("device", args.device or ":0")
        elif args.device:
            options.setdefault("device", args.device)
        load = getattr(module, "load_delegate", None) or module.experimental.load_delegate
        try:
            return load(self.library, options)
        except (ValueError, OSError, RuntimeError) as error:
            told = f"{self.library} can't be used as a delegate: {error or type(error).__name__}"
            raise Stop(
                MISSING, told, why_no_edgetpu() if chip else "is it for this machine?"
            ) from error

    @staticmethod
    def _match(ends: List[Json], details: List[Json]) -> List[Tuple[Json, Json]]:
        known = {one["name"]: one for one in details}
        missing = [end["tensor"] for end in ends if end["tensor"] not in known]
        if missing:
            raise Stop(BROKE, f"it has no {missing}, it has {sorted(known)}", "bundle it again.")
        return [(end, known[end["tensor"]]) for end in ends]

    def placement(self) -> Json:
        """Which ops a delegate took, told from the graph after it was changed."""
        try:
            ops = self.interpreter._get_ops_details()
        except Exception as error:
            return {"asked": self.asked, "used": None, "why": f"it can't be read: {error}"}
        changed = [op for op in ops if "delegate" in op["op_name"].lower()]
        plain = [op for op in ops if op not in changed]
        taken = set()
        makers = {int(one): op for op in plain for one in op["outputs"]}
        for node in changed:
            ends = {int(one) for one in node["inputs"]}
            todo = [int(one) for one in node["outputs"]]
            while todo:
                tensor = todo.pop()
                op = makers.get(tensor)
                if tensor not in ends and op is not None and op["index"] not in taken:
                    taken.add(op["index"])
                    todo += [int(one) for one in op["inputs"]]
        chip = sum(op["op_name"].lower().startswith("edgetpu-custom-op") for op in plain)
        left: Dict[str, int] = {}
        for op in plain:
            if op["index"] not in taken:
                left[op["op_name"]] = left.get(op["op_name"], 0) + 1
        return {
            "asked": self.asked, "used": bool(changed), "nodes": len(changed), "ops": len(plain),
            "taken": len(taken), "left": left, "chip_ops": chip, "library": self.library,
        }  # fmt: skip

    def feed(self, arrays: List[Any]) -> None:
        open_ends = False
        for (_, details), array in zip(self.inputs, arrays):
            if array.size != product(details["shape"]):
                self.interpreter.resize_tensor_input(details["index"], array.shape)
                details["shape"], open_ends = array.shape, True
        if open_ends:  # The file leaves a dimension to be said.
            self.interpreter.allocate_tensors()
        for (_, details), array in zip(self.inputs, arrays):
            self.interpreter.set_tensor(details["index"], stored(array, details))
        # A sample must not see the state that the one before left.
        self.interpreter.reset_all_variables()

    def run(self) -> None:
        self.interpreter.invoke()

    def fetch(self) -> List[Tuple[Any, Any]]:
        """Each output as it is stored, and as real numbers."""
        found = []
        for _, details in self.outputs:
            array = self.interpreter.get_tensor(details["index"])
            found.append((array, real(array, details)))
        return found

    def tensors(self) -> Iterator[Tuple[Json, Any]]:
        """Every op's outputs in the order of the ops, as far as the runtime kept them."""
        known = {one["index"]: one for one in self.interpreter.get_tensor_details()}
        ops = self.interpreter._get_ops_details()
        for op in (op for op in ops if "delegate" not in op["op_name"].lower()):
            for index in map(int, op["outputs"]):
                details = known.get(index)
                if details is None:
                    continue
                with contextlib.suppress(ValueError, RuntimeError):
                    array = self.interpreter.get_tensor(index)
                    scales = details["quantization_parameters"]["scales"]
                    yield {
                        "op": op["op_name"], "place": op["index"], "tensor": details["name"],
                        "step": float(scales[0]) if len(scales) == 1 else None,
                    }, array  # fmt: skip


def check_edgetpu_version(library: str, model: Json) -> None:
    """Refuse what libedgetpu would only refuse with a number, or crash over."""
    try:
        loaded = ctypes.CDLL(library)
        loaded.edgetpu_version.restype = ctypes.c_char_p
        words = (loaded.edgetpu_version() or b"").decode("ascii", "replace")
    except (OSError, AttributeError) as error:
        raise Stop(
            MISSING,
            f"libedgetpu can't be loaded: {error}",
            "sudo apt install libedgetpu1-std, from the package source that coral.ai names;"
            " EDGEPIPE_LIBEDGETPU=FILE names one elsewhere.",
        ) from error
    found = re.search(r"RuntimeVersion\((\d+)\)", words)
    needed = model.get("needs", {}).get("edgetpu_runtime", 0)
    if found and needed > int(found.group(1)):
        raise Stop(
            MISSING,
            f"it needs version {needed} of the Edge TPU runtime, this is {found.group(1)}",
            f"a newer libedgetpu, or compile with --min-runtime-version {found.group(1)}.",
        )


def why(message: str) -> str:
    """What helps against what a runtime says."""
    for pattern, hint in (
        ("edgetpu-custom-op", "libedgetpu took none of it: it was built for another runtime."),
        ("Didn't find op for builtin opcode", "the runtime is older than the model: a newer one."),
        ("[Rr]egistration.*failed|unresolved custom op", "the runtime lacks one of its operators."),
        ("alloc|memory", "too little memory: a smaller model, or end other programs."),
    ):
        if re.search(pattern, message):
            return hint
    return ""


def product(sizes: Any) -> int:
    found = 1
    for size in sizes:
        found *= int(size)
    return found


def scales(details: Json) -> Optional[Tuple[float, int]]:
    import numpy as np

    parameters = details["quantization_parameters"]
    if np.dtype(details["dtype"]).kind not in "iu" or len(parameters["scales"]) == 0:
        return None
    return float(parameters["scales"][0]), int(parameters["zero_points"][0])


def stored(array: Any, details: Json) -> Any:
    """A feed as the file stores it; the same arithmetic as on the host."""
    import numpy as np

    array = array.reshape(tuple(details["shape"]))
    found = scales(details)
    if found is None or array.dtype.kind != "f":
        return array.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    whole = np.rint(array / array.dtype.type(found[0])) + array.dtype.type(found[1])
    return np.clip(whole, limits.min, limits.max).astype(details["dtype"])


def real(array: Any, details: Json) -> Any:
    import numpy as np

    found = scales(details)
    if found is None:
        return array
    return (array.astype(np.float32) - np.float32(found[1])) * np.float32(found[0])


class Openvino:
    """OpenVINO's runtime on one of its devices."""

    def __init__(
        self, module: Any, model: Json, content: bytes, weights: bytes, args: argparse.Namespace
    ) -> None:
        self.module = module
        core = module.Core()
        self.asked = args.device or "CPU"
        there = list(core.available_devices)
        if not any(self.asked.split(".")[0].split(":")[0] in (one, "AUTO") for one in there):
            raise Stop(
                MISSING, f"OpenVINO has no device {self.asked}", f"there are: {', '.join(there)}."
            )
        settings: Json = {"PERFORMANCE_HINT": "LATENCY"}
        if self.asked == "CPU":
            settings["INFERENCE_PRECISION_HINT"] = "f32"
            if args.threads:
                settings["INFERENCE_NUM_THREADS"] = str(args.threads)
        try:
            graph = core.read_model(model=content, weights=weights)
            self.compiled = core.compile_model(graph, self.asked, settings)
        except RuntimeError as error:
            raise Stop(BROKE, f"OpenVINO can't load it: {error}") from error
        self.request = self.compiled.create_infer_request()
        self.inputs = [(end, place(self.compiled.inputs, end)) for end in model["inputs"]]
        self.outputs = [(end, place(self.compiled.outputs, end)) for end in model["outputs"]]

    def placement(self) -> Json:
        devices = self.compiled.get_property("EXECUTION_DEVICES")
        used = devices if isinstance(devices, (list, tuple)) else [devices]
        return {
            "asked": self.asked,
            "used": self.asked in used or "AUTO" in self.asked,
            "device": list(used),
        }

    def feed(self, arrays: List[Any]) -> None:
        for (_, at), array in zip(self.inputs, arrays):
            kind = self.compiled.inputs[at].element_type.to_dtype()
            self.request.set_input_tensor(at, self.module.Tensor(array.astype(kind).copy()))
        if hasattr(self.request, "reset_state"):
            self.request.reset_state()

    def run(self) -> None:
        self.request.infer()

    def fetch(self) -> List[Tuple[Any, Any]]:
        arrays = [self.request.get_output_tensor(at).data.copy() for _, at in self.outputs]
        return [(array, array) for array in arrays]

    def tensors(self) -> Iterator[Tuple[Json, Any]]:
        return iter(())


def place(ends: Any, wanted: Json) -> int:
    for index, end in enumerate(ends):
        if wanted["tensor"] in end.get_names() or wanted["tensor"] == end.node.friendly_name:
            return index
    raise Stop(BROKE, f"it has no {wanted['tensor']!r}", "bundle it again.")


# Measuring


class Column:
    """What is summed up of one output over all samples, against the host and the float model."""

    def __init__(self, end: Json) -> None:
        self.end = end
        self.elements = self.differing = self.rows = self.same = self.strange = self.most = 0
        self.farthest = 0.0
        self.histogram: Dict[int, int] = {}
        self.host = [0.0, 0.0]
        self.reference = [0.0, 0.0, 0.0, 0.0]

    def add(self, array: Any, value: Any, expected: Any, reference: Any) -> None:
        import numpy as np

        if expected is not None:
            self._against_host(array, value, expected)
        if reference is not None:
            a, b = reference.astype(np.float64).reshape(-1), value.astype(np.float64).reshape(-1)
            fine = np.isfinite(a) & np.isfinite(b)
            self.strange += int((np.isfinite(a) & ~np.isfinite(b)).sum())
            a, b = np.where(fine, a, 0.0), np.where(fine, b, 0.0)
            sums = (a @ a, np.square(a - b).sum(), a @ b, b @ b)
            self.reference = [x + float(y) for x, y in zip(self.reference, sums)]
            width = reference.shape[-1] if reference.ndim else 1
            if width >= 2:
                rows, others = a.reshape(-1, width), b.reshape(-1, width)
                self.rows += len(rows)
                self.same += int((rows.argmax(-1) == others.argmax(-1)).sum())

    def _against_host(self, array: Any, value: Any, expected: Any) -> None:
        import numpy as np

        wanted = real(expected, self.end["details"]) if self.end["details"] else expected
        a, b = wanted.astype(np.float64).reshape(-1), value.astype(np.float64).reshape(-1)
        fine = np.isfinite(a) & np.isfinite(b)
        self.strange += int((np.isfinite(a) & ~np.isfinite(b)).sum())
        a, b = np.where(fine, a, 0.0), np.where(fine, b, 0.0)
        far = np.abs(a - b)
        self.host = [self.host[0] + float(a @ a), self.host[1] + float(far @ far)]
        self.farthest = max(self.farthest, float(far.max()) if far.size else 0.0)
        self.elements += far.size
        self.differing += int((far > 0).sum())
        if array.dtype.kind in "iu" and array.dtype == expected.dtype:
            steps = np.abs(array.astype(np.int64) - expected.astype(np.int64)).reshape(-1)
        elif self.end.get("step"):
            steps = np.rint(far / self.end["step"]).astype(np.int64)
        else:
            return
        self.most = max(self.most, int(steps.max()) if steps.size else 0)
        for size, count in zip(
            *np.unique(np.minimum(steps, MOST_STEPS_SHOWN + 1), return_counts=True)
        ):
            self.histogram[int(size)] = self.histogram.get(int(size), 0) + int(count)

    def to_json(self) -> Json:
        signal, noise, product, other = self.reference
        length = math.sqrt(signal * other)
        found: Json = {"step": self.end.get("step"), "not_finite": self.strange}
        if self.elements:
            found["host"] = {
                "elements": self.elements, "differing": self.differing,
                "share": self.differing / self.elements, "most": self.farthest,
                "sqnr_db": decibel(*self.host),
                "most_steps": self.most if self.histogram else None,
                "histogram": {
                    f"{size}" if size <= MOST_STEPS_SHOWN else f">{MOST_STEPS_SHOWN}": count
                    for size, count in sorted(self.histogram.items())
                },
            }  # fmt: skip
        if self.end.get("reference"):
            found["reference"] = {
                "sqnr_db": decibel(signal, noise), "cosine": product / length if length else None,
                "rows": self.rows, "same": self.same,
                "agreement": self.same / self.rows if self.rows else None,
            }  # fmt: skip
        return found


def decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return 200.0
    return max(-200.0, min(200.0, 10 * math.log10(signal / noise))) if signal else -200.0


def answer(array: Any) -> int:
    """The class that an output names: its largest element or the one integer it is; or -1."""
    if array.dtype.kind in "iu" and array.size == 1:
        return int(array.reshape(()))
    if array.ndim and array.shape[-1] == array.size >= 2:
        return int(array.reshape(-1).argmax())
    return -1


def wilson(right: int, count: int) -> Tuple[float, float]:
    """The 95% interval of a share."""
    z, share = 1.959964, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def tango(won: int, lost: int, count: int) -> Tuple[float, float]:
    """The 95% interval of (won - lost) / count: what a score test does not reject (Tango, 1998)."""

    def rejected(difference: float) -> bool:
        a, c = 2 * count, -lost * difference * (1 - difference)
        b = -won - lost + (2 * count - won + lost) * difference
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = count * (2 * share + difference * (1 - difference))
        distance = won - lost - count * difference
        if variance <= 1e-12:
            return abs(distance) >= 1e-9
        return distance * distance / variance > 1.959964**2

    ends = []
    for outside in (-1.0, 1.0):
        inside = (won - lost) / count
        for _ in range(60 if rejected(outside) else 0):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
        ends.append(outside)
    return ends[0], ends[1]


def mcnemar(one: int, other: int) -> float:
    """The exact two-sided p-value of samples that only one of two models got right."""
    count = one + other
    below = math.fsum(
        math.exp(
            math.lgamma(count + 1)
            - math.lgamma(k + 1)
            - math.lgamma(count - k + 1)
            - count * math.log(2)
        )
        for k in range(min(one, other) + 1)
    )
    return min(1.0, 2 * below)


def accuracy(answers: List[int], floats: List[int], labels: List[int]) -> Optional[Json]:
    """Of both models on the same samples, and their difference, paired."""
    known = [(a, b, label) for a, b, label in zip(answers, floats, labels) if label >= 0]
    if not known or any(a < 0 or b < 0 for a, b, _ in known):
        return None
    count = len(known)
    right = sum(a == label for a, _, label in known)
    right_float = sum(b == label for _, b, label in known)
    lost = sum(b == label != a for a, b, label in known)
    won = sum(a == label != b for a, b, label in known)
    low, high = tango(won, lost, count)
    return {
        "metric": "top1", "samples": count, "device": right / count, "float": right_float / count,
        "interval": wilson(right, count), "interval_float": wilson(right_float, count),
        "only_float_right": lost, "only_device_right": won, "drop": (lost - won) / count,
        "drop_interval": [-high, -low],
        "p_value": mcnemar(lost, won), "test": "McNemar, exact",
    }  # fmt: skip


def prepared(array: Any, steps: Optional[Json]) -> Any:
    """(x * scale - mean) / std in float32, as on the host: each step rounds the same way."""
    import numpy as np

    if not steps:
        return array
    values = array.astype(np.float32) * np.float32(steps["scale"])
    for name, change in (("mean", np.subtract), ("std", np.divide)):
        if steps[name]:
            values = change(
                values, np.array(steps[name]["values"], np.float32).reshape(steps[name]["shape"])
            )
    return values.astype(steps["dtype"])


def measure(bundle: Bundle, model: Json, args: argparse.Namespace, tell: Any) -> Json:
    """One model on this board: everything that is seen of it. In a process of its own."""
    try:
        import numpy as np
    except ImportError as error:
        raise Stop(
            MISSING,
            f"numpy can't be imported: {error}",
            f"sudo apt install python3-numpy, or {sys.executable} -m pip install numpy",
        ) from error
    heat = Heat()
    found: Json = {"model": model["name"], "form": model["form"], "precision": model["precision"]}
    size = sum(bundle.manifest["files"][name]["size"] for name in model["files"].values())
    available = memory_of_machine()[1]
    if available and available < 2 * size + (32 << 20):
        raise Stop(
            MISSING,
            f"too little memory: it takes about {mebi(2 * size + (32 << 20))},"
            f" {mebi(available)} are free",
            "end other programs, add swap, or take a smaller model.",
        )
    content = bundle.model(model)
    weights = bundle.model(model, "weights") if "weights" in model["files"] else b""
    start = time.perf_counter()
    name, module, version = import_runtime(model["form"], args.runtime)
    found["runtime"] = {
        "name": name, "version": version, "threads": args.threads,
        "import": time.perf_counter() - start,
    }  # fmt: skip
    found["host"] = model["host"]
    forget_peak()
    before, start = own_memory("VmRSS"), time.perf_counter()
    runtime: Any
    if model["form"] == "openvino":
        runtime = Openvino(module, model, content, weights, args)
    else:
        runtime = Litert(module, model, content, args)
    load = time.perf_counter() - start
    found["placement"] = runtime.placement()
    for end, details in runtime.outputs:
        end["details"] = details if model["form"] != "openvino" else None
    _samples(np, bundle, model, runtime, args, tell, found, heat)
    if not args.no_latency:
        found["latency"] = {
            **_latency(runtime, args, heat, tell, model),
            "load": load,
            "cold": found.pop("cold"),
        }
    found.pop("cold", None)
    peak = own_memory("VmHWM")
    found["memory"] = (
        {"growth": max(0, peak - before), "peak": peak, "model": size} if peak else None
    )
    found["heat"] = heat.end()
    if args.keep_tensors:
        found["tensors"] = keep_tensors(np, module, bundle, model, content, args)
    return found


def _samples(
    np: Any, bundle: Bundle, model: Json, runtime: Any, args: argparse.Namespace,
    tell: Any, found: Json, heat: Heat,
) -> None:  # fmt: skip
    """Every sample through the model, beside what the host and the float model gave."""
    count = min(bundle.manifest["samples"]["count"], args.limit or 1 << 40)
    feeds = [bundle.rows(end["file"]) for end in model["inputs"]]
    expected = [
        bundle.rows(end["expected"]) if end.get("expected") else None for end in model["outputs"]
    ]
    references = [
        bundle.rows(end["reference"]) if end.get("reference") else None for end in model["outputs"]
    ]
    labels_file = bundle.manifest["samples"].get("labels")
    labels = [int(row) for row in bundle.rows(labels_file)][:count] if labels_file else []
    columns = [Column(end) for end in model["outputs"]]
    answers, floats = [], []
    kept: List[List[Any]] = [[] for _ in columns]
    for number in range(count):
        arrays = [
            prepared(next(rows), end.get("steps")) for rows, end in zip(feeds, model["inputs"])
        ]
        start = time.perf_counter()
        runtime.feed(arrays)
        runtime.run()
        if not number:
            found["cold"] = time.perf_counter() - start
        for at, (array, value) in enumerate(runtime.fetch()):
            wanted = expected[at]
            reference = references[at]
            truth = next(reference) if reference is not None else None
            columns[at].add(array, value, next(wanted) if wanted is not None else None, truth)
            if args.out:
                kept[at].append(array)
            if at == 0:
                answers.append(answer(value))
                floats.append(answer(truth) if truth is not None else -1)
        if number % max(1, count // 20) == 0 or number + 1 == count:
            heat.look()
            tell("samples", model=model["name"], done=number + 1, of=count)
    found["samples"] = count
    found["outputs"] = {
        end["name"]: column.to_json() for end, column in zip(model["outputs"], columns)
    }
    found["answers"] = answers
    found["accuracy"] = accuracy(answers, floats, labels) if labels else None
    if args.out:
        path = os.path.join(args.out, f"outputs-{model['name'].replace('/', '_')}.npz")
        names = [end["name"] for end in model["outputs"]]
        with open(path, "wb") as file:
            np.savez_compressed(file, names=np.array(json.dumps(names)), **{
                f"o{at}": np.stack(rows) for at, rows in enumerate(kept) if rows
            })  # fmt: skip
        found["outputs_file"] = os.path.basename(path)


def keep_tensors(
    np: Any, module: Any, bundle: Bundle, model: Json, content: bytes, args: argparse.Namespace
) -> Json:
    """The first sample's inner tensors as a file, in the order of the ops, to be compared.

    By an interpreter of its own, since keeping them changes what is computed how: LiteRT 2.3 gives
    each op to XNNPACK alone, so that nothing is fused, and tflite_runtime leaves XNNPACK out.
    """
    if model["form"] == "openvino":
        return {"file": "", "tensors": 0, "why": "OpenVINO keeps no inner tensors"}
    try:
        runtime = Litert(module, model, content, args, keep=True)
        runtime.feed(
            [prepared(next(bundle.rows(end["file"])), end.get("steps")) for end in model["inputs"]]
        )
        runtime.run()
    except (Stop, RuntimeError, ValueError) as error:
        return {"file": "", "tensors": 0, "why": str(error)}
    rows: List[Json] = []
    arrays = {}
    for facts, array in runtime.tensors():
        arrays[f"t{len(rows)}"] = array
        rows.append(facts)
    path = os.path.join(args.out or ".", f"tensors-{model['name'].replace('/', '_')}.npz")
    with open(path, "wb") as file:
        np.savez_compressed(file, index=np.array(json.dumps(rows)), **arrays)
    placed = runtime.placement()
    return {"file": os.path.basename(path), "tensors": len(rows), "placement": placed}


def _latency(runtime: Any, args: argparse.Namespace, heat: Heat, tell: Any, model: Json) -> Json:
    """Seconds of the runtime alone, on the last sample that was fed."""
    for _ in range(3):
        runtime.run()
    times: List[float] = []
    began = time.perf_counter()
    while len(times) < args.runs and (
        len(times) < 5 or time.perf_counter() - began < SECONDS_OF_RUNS
    ):
        start = time.perf_counter()
        runtime.run()
        times.append(time.perf_counter() - start)
    heat.look()
    tell("latency", model=model["name"], runs=len(times))
    ranks = sorted(times)

    def at(share: float) -> float:
        return ranks[min(len(ranks) - 1, math.ceil(share * len(ranks)) - 1)]

    half = len(times) // 2
    early, late = (sorted(part)[len(part) // 2] for part in (times[:half] or times, times[half:]))
    return {
        "p50": at(0.5), "p90": at(0.9), "p95": at(0.95), "p99": at(0.99),
        "mean": sum(times) / len(times), "runs": len(times),
        "slowed": late / early if half else None, "times": times[:2000],
    }  # fmt: skip


# Judging


def mebi(count: float) -> str:
    return f"{count / (1 << 20):.1f} MiB"


def short(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def check(name: str, verdict: str, words: str) -> Json:
    return {"check": name, "verdict": verdict, "words": words}


def against(value: float, low: float, high: float, limit: float, at_most: bool) -> str:
    """Whether a figure keeps its limit with all of its interval, or none of it."""
    if at_most:
        return PASSED if high <= limit else FAILED if low > limit else UNDECIDED
    return PASSED if low >= limit else FAILED if high < limit else UNDECIDED


def judge(found: Json, limits: Dict[str, float], args: argparse.Namespace) -> List[Json]:
    """The checks of one model, in the order of CHECKS."""
    runtime = found["runtime"]
    version = f"{runtime['name']} {runtime['version']}"
    made = [
        check("load", PASSED, f"{version}, {runtime['threads'] or 'its own number of'} threads")
    ]
    made.append(_judge_placement(found["placement"], found["form"], args))
    made += _judge_outputs(found, limits)
    made.append(_judge_accuracy(found, limits))
    made.append(_judge_latency(found, limits, args))
    made.append(_judge_memory(found["memory"], limits.get("max-memory")))
    made.append(_judge_heat(found["heat"]))
    return made


def _judge_placement(placement: Json, form: str, args: argparse.Namespace) -> Json:
    used, asked = placement["used"], placement["asked"]
    if used is None:
        return check("delegate", SKIPPED, placement["why"])
    if form == "openvino":
        told = f"ran on {', '.join(map(str, placement['device']))}, asked for {asked}"
        return check("delegate", PASSED if used else FAILED, told)
    taken = f"{placement['taken']} of {placement['ops']} ops"
    if asked in ("none", "reference"):
        words = "reference kernels" if asked == "reference" else "the runtime's own kernels"
        return check("delegate", FAILED if used else PASSED, f"{words}, no delegate")
    if asked == "auto":
        words = f"XNNPACK by default, {taken}" if used else "no delegate took part"
        return check("delegate", SEEN, words)
    left = ", ".join(f"{count} {name}" for name, count in sorted(placement["left"].items()))
    words = f"{asked} took {taken}" + (f"; on the CPU: {left}" if left else "")
    if not used:
        words = f"{asked} was asked for and took none of the {placement['ops']} ops"
    return check("delegate", PASSED if used else FAILED, words)


def _judge_outputs(found: Json, limits: Dict[str, float]) -> List[Json]:
    hosts, floats, host_verdicts, float_verdicts = [], [], [], []
    for name, output in found["outputs"].items():
        label = f"{name[-24:]}: " if len(found["outputs"]) > 1 else ""
        if "host" in output:
            told, verdicts = _beside_host(output, limits)
            hosts.append(label + told)
            host_verdicts += verdicts
        if "reference" in output:
            told, verdicts = _beside_float(output["reference"], limits)
            floats.append(label + told)
            float_verdicts += verdicts
    made = []
    for name, words, verdicts in (
        ("host", hosts, host_verdicts),
        ("reference", floats, float_verdicts),
    ):
        told = "; ".join(words) or "the bundle holds nothing to compare with"
        made.append(check(name, worst(verdicts) if words else SKIPPED, told))
    return made


def worst(verdicts: List[str]) -> str:
    """Of several limits; `seen` where there was none."""
    for verdict in (FAILED, UNDECIDED, PASSED):
        if verdict in verdicts:
            return verdict
    return SEEN


def _beside_host(output: Json, limits: Dict[str, float]) -> Tuple[str, List[str]]:
    seen, steps = output["host"], output["host"]["most_steps"]
    far = f"at most {steps} steps" if steps is not None else f"at most {seen['most']:.3g}"
    words = f"{1 - seen['share']:.1%} the same, {far}, {seen['sqnr_db']:.1f} dB"
    verdicts = []
    if output["not_finite"]:
        verdicts.append(FAILED)
        words += f" ({output['not_finite']} values are NaN or infinite)"
    least = limits.get("min-host-sqnr")
    if least is not None:
        verdicts.append(PASSED if seen["sqnr_db"] >= least else FAILED)
        words += f" (min-host-sqnr {least:g} dB)" if verdicts[-1] == FAILED else ""
    most = limits.get("max-steps")
    if most is not None:
        verdicts.append(UNDECIDED if steps is None else PASSED if steps <= most else FAILED)
        words += f" (max-steps {most:g})"
    return words, verdicts


def _beside_float(seen: Json, limits: Dict[str, float]) -> Tuple[str, List[str]]:
    words, verdicts = f"{seen['sqnr_db']:.1f} dB", []
    least = limits.get("min-sqnr")
    if least is not None:
        verdicts.append(PASSED if seen["sqnr_db"] >= least else FAILED)
        words += f" (min-sqnr {least:g} dB)"
    if seen["agreement"] is not None:
        words += f", same largest {seen['agreement']:.1%}"
    if "min-agreement" in limits:
        least = limits["min-agreement"]
        if seen["agreement"] is None:
            verdicts.append(UNDECIDED)
        else:
            low, high = wilson(seen["same"], seen["rows"])
            words += f" [{100 * low:.1f}, {100 * high:.1f}]"
            verdicts.append(against(seen["agreement"], low, high, least, False))
        words += f" (min-agreement {least:.1%})"
    return words, verdicts


def _judge_accuracy(found: Json, limits: Dict[str, float]) -> Json:
    seen = found["accuracy"]
    if seen is None:
        asked = [name for name in ("max-drop", "min-top1") if name in limits]
        words = "no labels in the bundle, or no output that names a class"
        return check("accuracy", FAILED if asked else SKIPPED, words)
    low, high = seen["interval"]
    drop = [100 * value for value in (seen["drop"], *seen["drop_interval"])]
    words = (
        f"top-1 {seen['device']:.1%} [{100 * low:.1f}, {100 * high:.1f}],"
        f" float {seen['float']:.1%};"
        f" drop {drop[0]:.2f} points [{drop[1]:.2f}, {drop[2]:.2f}], p={seen['p_value']:.2g}"
    )
    verdicts = []
    if "max-drop" in limits:
        verdicts.append(against(drop[0], drop[1], drop[2], limits["max-drop"], True))
        words += f" (max-drop {limits['max-drop']:g} points)"
    if "min-top1" in limits:
        verdicts.append(against(seen["device"], low, high, limits["min-top1"], False))
        words += f" (min-top1 {limits['min-top1']:.1%})"
    verdict = worst(verdicts)
    if verdict == UNDECIDED:
        words += f"; {more_samples(seen, limits)}"
    return check("accuracy", verdict, words)


def more_samples(seen: Json, limits: Dict[str, float]) -> str:
    """About how many would tell, if what was seen is the truth."""
    needed = 0.0
    for name, value, (low, high) in (
        ("max-drop", 100 * seen["drop"], [100 * end for end in seen["drop_interval"]]),
        ("min-top1", seen["device"], seen["interval"]),
    ):
        if name in limits and low < limits[name] < high:
            far = abs(limits[name] - value)
            half = (high - low) / 2
            needed = max(needed, seen["samples"] * (half / far) ** 2) if far else math.inf
    if needed > 1e6:
        return f"{seen['samples']} samples can't tell: it is at the limit"
    return f"{seen['samples']} samples can't tell, about {math.ceil(needed)} would"


def _judge_memory(memory: Optional[Json], most: Optional[float]) -> Json:
    if not memory:
        return check("memory", SKIPPED if most is None else UNDECIDED, "it can't be read here")
    words = f"{mebi(memory['growth'])} to load and run, {mebi(memory['model'])} the model itself"
    if most is None:
        return check("memory", SEEN, words)
    verdict = PASSED if memory["growth"] <= most else FAILED
    return check("memory", verdict, f"{words} (max-memory {mebi(most)})")


def _judge_latency(found: Json, limits: Dict[str, float], args: argparse.Namespace) -> Json:
    if args.no_latency:
        return check("latency", SKIPPED, "not measured (--no-latency)")
    seen = {
        name: value * 1000 for name, value in found["latency"].items() if isinstance(value, float)
    }
    p50, p90, p99, load, cold = (short(seen[one]) for one in ("p50", "p90", "p99", "load", "cold"))
    words = f"p50 {p50} ms, p90 {p90}, p99 {p99}; load {load}, first {cold}"
    verdicts = []
    for name, share, figure in (("max-latency", 0.5, "p50"), ("max-p99", 0.99, "p99")):
        if name in limits:
            low, high = quantile_interval([1000 * one for one in found["latency"]["times"]], share)
            verdicts.append(against(seen[figure], low, high, limits[name], True))
            words += f"; {figure} {short(low)} to {short(high)} ({name} {limits[name]:g} ms)"
    slowed = found["latency"]["slowed"] or 1.0
    if slowed > 1.2:
        words += f"; it slowed down by {slowed - 1:.0%} on the way"
    return check("latency", worst(verdicts), words)


def quantile_interval(times: List[float], share: float) -> Tuple[float, float]:
    """By a bootstrap of stretches: neighbours are alike, as a clock that falls makes them."""
    import random

    count = len(times)
    stretch = max(1, round(count / 20))
    draw = random.Random(0)
    found = []
    for _ in range(500):
        taken: List[float] = []
        while len(taken) < count:
            start = draw.randrange(count)
            taken += (times + times)[start : start + stretch]
        found.append(sorted(taken[:count])[min(count - 1, int(share * count))])
    found.sort()
    return found[12], found[487]


def _judge_heat(heat: Json) -> Json:
    flags, past = heat["throttled"], heat["throttled_since_boot"]
    hottest = max(heat["highest"].items(), key=lambda item: item[1], default=None)
    words = [f"{hottest[1]:.1f} C ({hottest[0]})"] if hottest else []
    if flags is not None:
        words.append(f"now: {', '.join(flags)}" if flags else "not throttled")
        if past:
            words.append(f"since it started: {', '.join(past)}")
    if not words:
        return check("heat", SKIPPED, "it can't be read here")
    return check("heat", SEEN, "; ".join(words) + ("; the latency says little" if flags else ""))


# Running, each model in a process of its own


def apart(bundle: Bundle, model: Json, args: argparse.Namespace, tell: Any) -> Json:
    """What `guarded` gives, from a child: a delegate that crashes takes only its model along."""
    if args.in_process or not hasattr(os, "fork"):
        return guarded(bundle, model, args, tell)
    reading, writing = os.pipe()
    with scratch() as noise:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            _in_child(bundle, model, args, tell, writing, noise)
        os.close(writing)
        try:
            text, late = _read_all(reading, child, args.timeout)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        finally:
            os.close(reading)
        status = os.waitpid(child, 0)[1]
        noise.seek(0)
        tail = noise.read()[-4000:].decode("utf-8", "replace").strip().splitlines()[-6:]
    if text:
        found: Json = json.loads(text.decode("utf-8"))
    else:
        found = failed(model, *_death(status, late, args.timeout))
    if found.get("error", {}).get("code") in (BUG, BROKE):
        found["error"]["tail"] = [line[:200] for line in tail]
    return found


def scratch() -> IO[bytes]:
    """For what a runtime prints; nowhere, where a board has no place to write to."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.devnull, "w+b")


def end_with_parent() -> None:
    """Linux only: a run that is ended from afar leaves no model running on the board."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _in_child(
    bundle: Bundle, model: Json, args: argparse.Namespace, tell: Any, writing: int, noise: IO[bytes]
) -> None:
    """Never returns. What the runtime prints goes to `noise`, progress to the real stderr."""
    code = 1
    try:
        end_with_parent()
        tell.keep(os.dup(2))
        os.dup2(noise.fileno(), 2)
        os.dup2(noise.fileno(), 1)
        bundle.reopen()
        text = json.dumps(guarded(bundle, model, args, tell)).encode("utf-8")
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(text)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _read_all(reading: int, child: int, timeout: float) -> Tuple[bytes, bool]:
    import select

    pieces, late = [], False
    end = time.monotonic() + timeout if timeout else 0.0
    while True:
        left = end - time.monotonic() if timeout else None
        if left is not None and (left <= 0 or not select.select([reading], [], [], left)[0]):
            os.kill(child, signal.SIGKILL)
            late = True
            break
        piece = os.read(reading, 1 << 16)
        if not piece:
            break
        pieces.append(piece)
    return (b"" if late else b"".join(pieces)), late


def _death(status: int, late: bool, timeout: float) -> Tuple[int, str, str]:
    if late:
        hint = "more time with --timeout, or plug the stick in again."
        return BROKE, f"it took longer than {timeout:g} s", hint
    number = status & 127
    if not number:
        return BUG, "this is a bug of run_on_device.py", "please report it with the lines above."
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = {
        "SIGKILL": "the system killed it, most likely for memory: end other programs, or add swap.",
        "SIGILL": "the runtime was built for a newer processor: try tflite-runtime, or 64 bits.",
    }.get(name, "the runtime or its delegate crashed: try --delegate none, or another version.")
    return BROKE, f"the runtime died ({name})", hint


def guarded(bundle: Bundle, model: Json, args: argparse.Namespace, tell: Any) -> Json:
    """What was measured, or what went wrong; the errors of a runtime are the model's failure."""
    try:
        return measure(bundle, model, args, tell)
    except Stop as error:
        return failed(model, error.code, error.message, error.hint)
    except MemoryError:
        hint = "end other programs, add swap, or take a smaller model."
        return failed(model, MISSING, "too little memory", hint)
    except (RuntimeError, ValueError, OSError) as error:
        return failed(model, BROKE, f"{type(error).__name__}: {error}", why(str(error)))


def failed(model: Json, code: int, message: str, hint: str) -> Json:
    error = {"code": code, "message": message, "hint": hint}
    return {
        "model": model["name"],
        "form": model["form"],
        "precision": model["precision"],
        "error": error,
    }


class Teller:
    """Progress on stderr: words that overwrite each other on a terminal, or a JSON line each."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.file: Any = sys.stderr

    def keep(self, descriptor: int) -> None:
        self.file = os.fdopen(descriptor, "w")

    def __call__(self, event: str, **facts: Any) -> None:
        if self.kind == "none":
            return
        if self.kind == "json":
            print(json.dumps({"event": event, **facts}), file=self.file, flush=True)
        elif event == "samples":
            end = "\r" if self.file.isatty() and facts["done"] < facts["of"] else "\n"
            if end == "\n" and not self.file.isatty() and facts["done"] < facts["of"]:
                return
            print(
                f"{facts['model']}: {facts['done']}/{facts['of']} samples",
                end=end,
                file=self.file,
                flush=True,
            )


def run(args: argparse.Namespace) -> Json:
    """The whole of it as one document."""
    start = time.time()
    tell = Teller(args.progress)
    bundle = Bundle(args.bundle, args.key, args.public_key)
    manifest = bundle.manifest
    models = [model for model in manifest["models"] if not args.only or model["name"] in args.only]
    unknown = set(args.only) - {model["name"] for model in models}
    if unknown or not models:
        there = ", ".join(model["name"] for model in manifest["models"])
        raise Stop(USAGE, f"the bundle has no {', '.join(sorted(unknown))}", f"it has: {there}.")
    if args.delegate == "edgetpu" and not args.only:
        models = [model for model in models if model["form"] == "edgetpu"] or models
    tell("start", bundle=args.bundle, models=[model["name"] for model in models])
    meant = any(model.get("primary") for model in manifest["models"])
    said = {item["name"]: item["value"] for item in manifest.get("limits", [])}
    results = []
    for model in models:
        tell("model", model=model["name"])
        found = apart(bundle, model, args, tell)
        found["primary"] = bool(model.get("primary")) or bool(args.only)
        if "error" not in found:
            # What is on the way to the model that is meant is held to nothing but to run alike.
            limits = dict(said) if found["primary"] or not meant else {}
            limits.setdefault("min-host-sqnr", model["min_host_sqnr"])
            found["checks"] = judge(found, limits, args)
        else:
            missing = found["error"]["code"] == MISSING and not found["primary"]
            words = found["error"]["message"]
            found["checks"] = [check("load", SKIPPED if missing else FAILED, words)]
        results.append(found)
        tell(
            "done",
            model=model["name"],
            verdicts={c["check"]: c["verdict"] for c in found["checks"]},
        )
    code, verdict = _outcome(results, args)
    with open(args.bundle, "rb") as file:
        hasher = hashlib.sha256()
        for piece in iter(lambda: file.read(1 << 18), b""):
            hasher.update(piece)
    return {
        "schema": SCHEMA, "kind": "edgepipe device result", "verdict": verdict, "exit_code": code,
        "bundle": {
            "name": manifest["name"], "sha256": hasher.hexdigest(), "signature": bundle.signed,
            "edgepipe": manifest["edgepipe"], "samples": manifest["samples"]["count"],
            "noise": manifest["samples"]["random"],
        },
        "board": board(), "runtimes": installed(), "limits": manifest.get("limits", []),
        "settings": {
            "threads": args.threads, "delegate": args.delegate, "device": args.device,
            "limit": args.limit, "runs": args.runs,
        },
        "models": results, "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start)),
        "seconds": round(time.time() - start, 3),
    }  # fmt: skip


def _outcome(results: List[Json], args: argparse.Namespace) -> Tuple[int, str]:
    """The exit code: a model that failed, then what is missing, then the limits."""
    errors = [found["error"]["code"] for found in results if "error" in found]
    needed = [found["error"]["code"] for found in results if "error" in found and found["primary"]]
    for code in (BUG, USAGE, BROKE):
        if code in errors:
            return code, FAILED
    if needed or len(errors) == len(results):
        return MISSING, FAILED
    verdicts = {one["verdict"] for found in results for one in found["checks"]}
    if FAILED in verdicts:
        return WORSE, FAILED
    if UNDECIDED in verdicts:
        return (0 if args.allow_undecided else WORSE), UNDECIDED
    return 0, PASSED


# Showing


def table(document: Json) -> str:
    """At most 80 columns, for a serial console."""
    facts = document["board"]
    name = facts["board"] or facts["cpu"]
    bundle = document["bundle"]
    noise = " of noise, which say little" if bundle["noise"] else ""
    machine = f"{facts['machine']}, {facts['cores']} cores, {mebi(facts['memory'])}"
    lines = [
        f"{bundle['name']} on {facts['host']}: {name}"[:80],
        f"{machine}, Python {facts['python']}; bundle {bundle['sha256'][:12]}"[:80],
        f"bundle: {bundle['signature']}, {bundle['samples']} samples{noise}"[:80],
    ]
    for found in document["models"]:
        lines += ["", found["model"]]
        for one in found["checks"]:
            wrapped = textwrap.wrap(one["words"], 80 - 24, break_on_hyphens=False) or [""]
            lines.append(f"  {one['check']:<10} {one['verdict']:<10} {wrapped[0]}")
            lines += [f"{'':<24}{more}" for more in wrapped[1:]]
        error = found.get("error")
        for text in (
            [*error.get("tail", []), f"-> {error['hint']}" if error["hint"] else ""]
            if error
            else []
        ):
            lines += textwrap.wrap(text, 80, initial_indent="    ", subsequent_indent="    ")
    told = {PASSED: "passed", FAILED: "FAILED", UNDECIDED: "undecided: not enough samples to tell"}
    end = f"{told[document['verdict']]} in {document['seconds']:.1f} s"
    lines += ["", f"{end}, exit code {document['exit_code']}"]
    return "\n".join(lines)


def junit(document: Json) -> str:
    """A suite a model and a case a check, by the schema of Jenkins and that of Ant's reports."""
    text = "".join(_suite(document, at, found) for at, found in enumerate(document["models"]))
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n{text}</testsuites>\n'
    return re.sub("[^\t\n\x20-\ufffd]", "?", text)


def _suite(document: Json, at: int, found: Json) -> str:
    from xml.sax.saxutils import escape, quoteattr

    cases, lines = [], []
    counts = {"failure": 0, "skipped": 0}
    hint = f" -> {found['error']['hint']}" if found.get("error", {}).get("hint") else ""
    for one in found["checks"]:
        words, inner = one["words"] + hint, ""
        lines.append(f"{one['check']}: {one['verdict']}: {words}")
        if one["verdict"] == SKIPPED or (one["verdict"] == UNDECIDED and not document["exit_code"]):
            counts["skipped"] += 1
            inner = f"<skipped message={quoteattr(words)}/>"
        elif one["verdict"] in (FAILED, UNDECIDED):
            counts["failure"] += 1
            inner = f"<failure type={quoteattr(one['verdict'])} message={quoteattr(words)}/>"
        name = quoteattr(f"{found['model']}.{one['check']}")
        of = quoteattr(document["bundle"]["name"] or "bundle")
        cases.append(f'<testcase classname={of} name={name} time="0.000">{inner}</testcase>\n')
    bundle = document["bundle"]
    properties = "".join(
        f"<property name={quoteattr(name)} value={quoteattr(str(value))}/>"
        for name, value in (("bundle", bundle["sha256"]), ("board", document["board"]["cpu"]))
    )
    return (
        f'<testsuite id="{at}" name={quoteattr(found["model"])} package="edgepipe.device"'
        f' timestamp="{document["started"].rstrip("Z")}"'
        f" hostname={quoteattr(document['board']['host'] or 'board')}"
        f' tests="{len(cases)}" failures="{counts["failure"]}" errors="0"'
        f' skipped="{counts["skipped"]}" time="{document["seconds"]:.3f}">\n'
        f"<properties>{properties}</properties>\n{''.join(cases)}"
        f"<system-out>{escape(chr(10).join(lines))}</system-out><system-err/>\n</testsuite>\n"
    )


def made_folder(path: str) -> None:
    if not path:
        return
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise Stop(USAGE, f"{path} can't be made: {error.strerror}", "another --out.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise Stop(USAGE, f"{path} can't be written to", "another --out.")


def write_whole(path: str, text: str) -> None:
    """Aside, then renamed: a run that is cut off leaves the old file or the new one."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)
    except OSError as error:
        raise Stop(
            USAGE, f"{path} can't be written: {error.strerror}", "another folder."
        ) from error


def whole(least: int) -> Any:
    """A number that can be: argparse says the rest."""

    def read(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return read


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="run_on_device.py", description="Run an edgepipe bundle on this board.",
        epilog="Exit codes: 0 done, 2 bad usage or bundle, 3 something is missing, 4 a model"
        " failed, 5 worse than the limits.",
    )  # fmt: skip
    add = made.add_argument
    add("bundle", help="the .edgebundle that edgepipe made")
    add(
        "--out", default="", metavar="DIR", help="write result.json, junit.xml and the outputs here"
    )
    add("--json", default="", metavar="FILE", help="write the result as JSON")
    add("--junit", default="", metavar="FILE", help="write the checks as JUnit XML")
    add(
        "--only",
        action="append",
        default=[],
        metavar="MODEL",
        help="only this model; again for more",
    )
    add(
        "--threads",
        type=whole(0),
        default=0,
        metavar="N",
        help="threads; default: the runtime's own",
    )
    add("--runtime", default="", metavar="NAME", help="of several that are installed")
    add(
        "--delegate", default="auto", metavar="NAME",
        help="auto, none, xnnpack, reference, edgetpu, or a library's path",
    )  # fmt: skip
    add("--delegate-option", action="append", default=[], metavar="K=V", help="for that library")
    add(
        "--device",
        default="",
        metavar="NAME",
        help="usb, pci, :0 of Edge TPUs; CPU, GPU of OpenVINO",
    )
    add("--limit", type=whole(0), default=0, metavar="N", help="run only the first N samples")
    add(
        "--runs", type=whole(1), default=200, metavar="N", help="runs for the latency, 10 s at most"
    )
    add(
        "--no-latency",
        action="store_true",
        help="don't measure it: on an emulator it means nothing",
    )
    add("--keep-tensors", action="store_true", help="write the first sample's inner tensors")
    add("--key", default="", metavar="FILE", help=f"key of encrypted models, or {KEY_VARIABLE}")
    add(
        "--public-key",
        default="",
        metavar="FILE",
        help=f"check the signature, or {PUBLIC_VARIABLE}",
    )
    add("--allow-undecided", action="store_true", help="exit 0 where samples are too few to tell")
    add("--timeout", type=float, default=0, metavar="S", help="longest time for one model")
    add("--in-process", action="store_true", help="don't run each model in a process of its own")
    add("--progress", default="text", choices=["text", "json", "none"], help="on stderr")
    add("--quiet", action="store_true", help="no table")
    return made


def main(arguments: Optional[List[str]] = None) -> int:
    args = parser().parse_args(arguments)
    for ending in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, ending):
            signal.signal(getattr(signal, ending), signal.default_int_handler)
    try:
        made_folder(args.out)
        document = run(args)
        text = json.dumps(document, indent=1) + "\n"
        for path in (args.json, os.path.join(args.out, "result.json") if args.out else ""):
            if path:
                write_whole(path, text)
        for path in (args.junit, os.path.join(args.out, "junit.xml") if args.out else ""):
            if path:
                write_whole(path, junit(document))
    except Stop as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  -> {error.hint}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if not args.quiet:
        print(table(document), flush=True)
    return int(document["exit_code"])


# For pytest: one test per model and check


def pytest_addoption(parser: Any) -> None:
    group = parser.getgroup("edgepipe")
    group.addoption(
        "--edgebundle", default="", metavar="FILE", help="test this bundle on this board"
    )
    group.addoption(
        "--edgebundle-args", default="", metavar="WORDS", help="further words for run_on_device.py"
    )


def pytest_collection_modifyitems(session: Any, config: Any, items: List[Any]) -> None:
    path = config.getoption("--edgebundle", default="")
    if not path:
        return
    import shlex

    import pytest

    words = [
        path,
        "--quiet",
        "--progress",
        "none",
        *shlex.split(config.getoption("--edgebundle-args")),
    ]
    args = parser().parse_args(words)
    try:
        names = [
            model["name"] for model in Bundle(path, args.key, args.public_key).manifest["models"]
        ]
    except Stop as error:
        raise pytest.UsageError(f"{error.message}\n{error.hint}") from error
    done: Json = {}

    class Check(pytest.Item):
        model, kind = "", ""

        def runtest(self) -> None:
            if not done:
                done.update(run(args))
            found = next(found for found in done["models"] if found["model"] == self.model)
            one = next((one for one in found["checks"] if one["check"] == self.kind), None)
            if one is None or one["verdict"] == SKIPPED:
                pytest.skip(one["words"] if one else "the model could not be run")
            hint = found.get("error", {}).get("hint", "")
            if one["verdict"] in (FAILED, UNDECIDED):
                raise Stop(WORSE, f"{one['verdict']}: {one['words']}", hint)

        def repr_failure(self, info: Any, style: Any = None) -> str:
            error = info.value
            return f"{error.message}\n{error.hint}" if isinstance(error, Stop) else str(info)

        def reportinfo(self) -> Tuple[str, int, str]:
            return path, 0, f"{self.model}: {self.kind}"

    for name in names:
        for kind in CHECKS if not args.only or name in args.only else ():
            item = Check.from_parent(session, name=f"{name}::{kind}")
            item.model, item.kind = name, kind
            items.append(item)


if __name__ == "__main__":
    sys.exit(main())
