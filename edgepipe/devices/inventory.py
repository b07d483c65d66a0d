"""The user's boards by name, kept as JSON in the user's configuration. It never holds a secret."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgepipe.errors import OptionError, PathError, UnknownName
from edgepipe.settings import configuration_root
from edgepipe.store_lock import lock

HOST = "host"
"""This machine with the toolchain `edge`; always there."""
KINDS = ("local", "ssh", "adb", "emulated")
SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
_HOST_NAME = re.compile(r"[\w.:%][\w.:%-]*")
_USER = re.compile(r"[\w.@+][\w.@+-]*")
_JUMP = re.compile(r"[\w.@:%+,\[\]][\w.@:%+,\[\]-]*")


@dataclass(frozen=True)
class Device:
    """One board. What is empty is as ssh, adb or the board have it."""

    name: str
    kind: str
    python: str = ""
    folder: str = ""
    """The one folder on the board that edgepipe makes."""
    host: str = ""
    user: str = ""
    port: int = 0
    key: str = ""
    """The path of a private key; the key itself stays where it is."""
    jump: str = ""
    serial: str = ""
    machine: str = ""
    cpu: str = ""
    delegate: str = "auto"
    threads: int = 0

    @property
    def words(self) -> str:
        """For tables and reports: no user, no key."""
        if self.kind == "ssh":
            return f"{self.host}{f':{self.port}' if self.port else ''} by SSH"
        if self.kind == "adb":
            return f"{self.serial or 'the only device'} by ADB"
        if self.kind == "emulated":
            return f"emulated {self.machine}{f' ({self.cpu})' if self.cpu else ''}"
        return "this machine"

    @property
    def emulated(self) -> bool:
        """Its latency says nothing of a board's."""
        return self.kind == "emulated"

    def to_json(self) -> dict[str, Any]:
        plain = {each.name: each.default for each in fields(self)}
        return {key: value for key, value in asdict(self).items() if value != plain[key]}


def of_address(name: str, address: str, **others: Any) -> Device:
    """A board by SSH: [user@]host[:port]."""
    user, _, rest = address.rpartition("@")
    match = re.fullmatch(r"\[([^]]+)\](?::(\d+))?|([^:]+)(?::(\d+))?|(\w*:\w*:[\w:.%]*)", rest)
    host = match and (match[1] or match[3] or match[5])
    port = int((match and (match[2] or match[4])) or 0)
    wrong = not host or not _HOST_NAME.fullmatch(host) or port > 65535
    if wrong or (user and not _USER.fullmatch(user)) or ":" in user:
        raise OptionError(
            f"--ssh takes [user@]host[:port], received {_unsecret(address)!r}",
            hint="no password: keys and ~/.ssh/config are used as ssh uses them.",
        )
    jump = others.get("jump", "")
    if jump and not _JUMP.fullmatch(jump):
        raise OptionError(f"--jump takes [user@]host[:port], received {jump!r}")
    assert host is not None
    return Device(name, "ssh", host=host, user=user, port=port, **others)


def _unsecret(address: str) -> str:
    return re.sub(r":[^@]*@", ":***@", address)


def path() -> Path:
    return configuration_root() / "devices.json"


def devices() -> dict[str, Device]:
    """Those that were added, by name."""
    try:
        text = path().read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PathError(f"{path()} can't be read: {error.strerror}") from error
    try:
        found = json.loads(text)
        rows = found["devices"]
        return {row["name"]: Device(**row) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"{path()} is no inventory of devices: {error}",
            hint="mend it, or take it away and add the boards again.",
        ) from error


def find(name: str) -> Device:
    known = devices()
    if name == HOST and name not in known:
        return Device(HOST, "local")
    if name not in known:
        raise UnknownName.of("device", name, [*known, HOST])
    return known[name]


def add(device: Device, over: bool = False) -> None:
    if not _NAME.fullmatch(device.name):
        raise OptionError(
            f"a device's name takes letters, digits, '.', '_' and '-', received {device.name!r}"
        )
    if device.name == HOST:
        raise OptionError(
            f"{HOST!r} is this machine, always", hint="choose another name for the board."
        )

    def change(known: dict[str, Device]) -> None:
        if device.name in known and not over:
            raise OptionError(
                f"there is a device {device.name!r} already: {known[device.name].words}",
                hint="take another name, or --force to replace it.",
            )
        known[device.name] = device

    _change(change)


def remove(name: str) -> Device:
    gone: list[Device] = []

    def change(known: dict[str, Device]) -> None:
        if name not in known:
            raise UnknownName.of("device", name, known)
        gone.append(known.pop(name))

    _change(change)
    return gone[0]


def _change(change: Callable[[dict[str, Device]], None]) -> None:
    """Under a lock and by rename, so that two runs at once lose nothing."""
    file = path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with lock(file.with_suffix(".lock")):
            known = devices()
            change(known)
            _write(file, known)
    except OSError as error:
        raise PathError(
            f"{file} can't be written: {error.strerror}",
            hint="set EDGEPIPE_CONFIG to a folder of your own.",
        ) from error


def _write(file: Path, known: Mapping[str, Device]) -> None:
    document = {"schema": SCHEMA, "devices": [each.to_json() for each in known.values()]}
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    aside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    aside.chmod(0o600)
    aside.rename(file)


def with_settings(device: Device, delegate: str = "", threads: int = 0) -> Device:
    """The same board, run otherwise."""
    return replace(device, delegate=delegate or device.delegate, threads=threads or device.threads)
