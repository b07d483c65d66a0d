"""Makes an Arm's Python in the cache and says how it is started under qemu: no root, no chroot."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgepipe.devices import debian_package
from edgepipe.devices.debian_mirror import Package, fetch_all
from edgepipe.devices.machine_wheels import install
from edgepipe.errors import InternalError, ToolchainFailed, UnknownName
from edgepipe.settings import cache_root, read_toml
from edgepipe.store_lock import lock

FOLDER = Path(__file__).parent / "machines"
RECORD = "machine.json"
LAYOUT = 1
"""Of the folder; raised when the same lock is unpacked in another way."""
SITE = "site"
"""Where the wheels are, beside the unpacked `usr` and `lib`."""
EMULATORS = ("qemu-aarch64-static", "qemu-arm-static")
"""All that is taken out of the one large package, so that it comes once."""
_UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/locale",
             "usr/include", "usr/lib/python3/dist-packages/numpy/tests")  # fmt: skip

Progress = Callable[[str, float], None]
"""Called with the phase that begins and the seconds so far."""


@dataclass(frozen=True)
class Machine:
    """A kind of processor, and what its small system is made of."""

    name: str
    words: str
    machine: str
    qemu: str
    python: str
    imports: tuple[str, ...]
    platforms: tuple[str, ...]
    uv_platform: str
    cpu: str
    """The one that is emulated unless another of `cpus` is asked for."""
    cpus: dict[str, dict[str, str]]
    cpuinfo: str
    emulator: Package
    packages: tuple[Package, ...]
    wheels: tuple[str, ...]
    digest: str

    @property
    def root(self) -> Path:
        return devices_root() / f"{self.name}-{self.digest[:12]}"


def devices_root() -> Path:
    return cache_root() / "devices"


def known() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def spec(name: str) -> Machine:
    if name not in known():
        raise UnknownName.of("processor to emulate", name, known())
    table = read_toml(FOLDER / f"{name}.toml")
    text = (FOLDER / f"{name}.lock").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    packages = {
        kind: [Package(row[1], row[2], int(row[3])) for row in rows if row[0] == kind]
        for kind in ("qemu", "deb")
    }
    return Machine(
        name=name,
        words=table["words"],
        machine=table["machine"],
        qemu=table["qemu"],
        python=table["python"],
        imports=tuple(table["imports"]),
        platforms=tuple(table["platforms"]),
        uv_platform=table["uv_platform"],
        cpu=table["cpu"],
        cpus=table["cpus"],
        cpuinfo=table["cpuinfo"].lstrip(),
        emulator=packages["qemu"][0],
        packages=tuple(packages["deb"]),
        wheels=tuple(" ".join(row) for row in rows if "==" in row[0]),
        digest=hashlib.sha256(f"{LAYOUT}{text}{table}".encode()).hexdigest(),
    )


def command(machine: Machine, cpu: str = "") -> tuple[list[str], dict[str, str]]:
    """How its Python is started, and the environment for that. Nothing of the user's own Python
    goes in; a Python of another processor would take it for its own."""
    root, cpu = machine.root, choose_cpu(machine, cpu)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    python = root / "usr" / "bin" / f"python{machine.python}"
    environment = {
        **own,
        "PYTHONHOME": str(root / "usr"),
        "PYTHONPATH": str(root / SITE),
        "PYTHONNOUSERSITE": "1",
        # Debian's alternatives would link these into the folder above; nobody ran its scripts.
        "LD_LIBRARY_PATH": ":".join(map(str, sorted(root.glob("usr/lib/*/*la*")))),
        "LD_PRELOAD": "",
        "QEMU_CPU": cpu,
    }
    seen = root / "seen-by" / cpu
    return [str(find_emulator(machine)), "-L", str(seen), str(python)], environment


def choose_cpu(machine: Machine, cpu: str) -> str:
    if cpu and cpu not in machine.cpus:
        raise UnknownName.of(f"processor of an emulated {machine.name}", cpu, machine.cpus)
    return cpu or machine.cpu


def is_made(machine: Machine) -> bool:
    return (machine.root / RECORD).is_file()


def make(machine: Machine, progress: Progress | None = None) -> Path:
    """Its root folder: once, and from where an earlier try ended."""
    start = time.monotonic()
    tell = progress or (lambda phase, seconds: None)

    def enter(phase: str) -> None:
        tell(phase, time.monotonic() - start)

    _refuse_own_kind(machine)
    devices_root().mkdir(parents=True, exist_ok=True)
    waiting = lock(
        devices_root() / f"{machine.name}.lock", on_wait=lambda _: enter("waiting for another run")
    )
    with waiting:
        if is_made(machine):
            return machine.root
        aside = machine.root.with_name(machine.root.name + ".partial")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            _build(machine, aside, enter)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    enter("ready")
    return machine.root


def _build(machine: Machine, aside: Path, enter: Callable[[str], None]) -> None:
    downloads = devices_root() / "downloads"
    wanted = [*machine.packages]
    needs_emulator = _on_path(machine) is None and not _own_emulator(machine).exists()
    if needs_emulator:
        wanted.append(machine.emulator)
    enter(f"download {sum(each.size for each in wanted) / 1e6:.0f} MB of Debian packages")
    files = fetch_all(wanted, downloads)
    if needs_emulator:
        enter("unpack the emulator")
        _take_emulators(machine, files.pop())
    enter("unpack")
    for file in files:
        debian_package.unpack(file, aside, lambda name: not name.startswith(_UNWANTED))
    _add_cpus(machine, aside)
    enter("download and unpack the wheels")
    install(machine, aside / SITE)
    if machine.root.exists():
        shutil.rmtree(machine.root)
    aside.rename(machine.root)
    try:
        enter("check")
        _check(machine)
    except BaseException:
        machine.root.rename(aside)
        raise
    for file in files:
        file.unlink(missing_ok=True)


def _add_cpus(machine: Machine, aside: Path) -> None:
    """A root for each processor: the one system, and its own /proc/cpuinfo, which qemu puts
    before the host's as it does with all that it finds in there."""
    for cpu, fields in machine.cpus.items():
        seen = aside / "seen-by" / cpu
        (seen / "proc").mkdir(parents=True)
        text = [machine.cpuinfo.format(number=n, **fields) for n in range(os.cpu_count() or 1)]
        (seen / "proc" / "cpuinfo").write_text("\n".join(text))
        for name in ("lib", "usr"):
            (seen / name).symlink_to(Path("..", "..", name))


def _check(machine: Machine) -> None:
    """Imports all once, which leaves the compiled code behind; the record is what `is_made` is."""
    started, environment = command(machine)
    code = "; ".join(f"import {module}" for module in machine.imports)
    code += "; import platform; print(platform.machine(), platform.python_version())"
    said = subprocess.run(
        [*started, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=tempfile.gettempdir(),
    )
    words = said.stdout.split()
    if said.returncode or words[:1] != [machine.machine]:
        told = " ".join((said.stderr or said.stdout).split())[-400:]
        raise ToolchainFailed(
            f"the emulated {machine.name} was made and its Python does not run"
            f" (exit code {said.returncode}): {told}",
            hint=f"is {started[0]} a working emulator? Another one is taken from PATH if it is"
            f" there as {machine.qemu}.",
        )
    record = {
        "machine": machine.name,
        "python": words[1],
        "emulator": started[0],
        "wheels": [each.split()[0] for each in machine.wheels],
    }
    (machine.root / RECORD).write_text(json.dumps(record, indent=1))


def find_emulator(machine: Machine) -> Path:
    found = _on_path(machine)
    return Path(found) if found else _own_emulator(machine)


def _on_path(machine: Machine) -> str | None:
    return shutil.which(machine.qemu) or shutil.which(machine.qemu.removesuffix("-static"))


def _own_emulator(machine: Machine) -> Path:
    return devices_root() / f"emulator-{machine.emulator.sha256[:12]}" / machine.qemu


def _take_emulators(machine: Machine, package: Path) -> None:
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        raise ToolchainFailed(
            f"expected {machine.qemu} on the PATH of a {platform.system()} {platform.machine()},"
            " found none",
            hint="install qemu's user-mode emulation; edgepipe brings it for Linux on x86_64.",
        )
    folder = _own_emulator(machine).parent
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    debian_package.take_out(package, {f"usr/bin/{name}": aside / name for name in EMULATORS})
    if not (aside / machine.qemu).exists():
        raise InternalError(f"{package.name} was to bring {machine.qemu}")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    package.unlink()


def _refuse_own_kind(machine: Machine) -> None:
    if platform.machine() == machine.machine:
        raise ToolchainFailed(
            f"this machine is an {machine.machine} itself: there is nothing to emulate",
            hint="add it as it is: `edgepipe device add NAME --local`.",
        )
