"""A board by Android's adb: the same files and jobs as over SSH, through `adb shell`."""

from __future__ import annotations

import re
import shlex
import shutil

from edgepipe.devices.inventory import Device
from edgepipe.devices.remote import RemoteBoard, Said
from edgepipe.devices.sending import Lost
from edgepipe.errors import DeviceUnreachable, ToolMissing

FOLDER = "/data/local/tmp/edgepipe-device"
"""The only place that adb's user may write to and run from on every Android."""
_GONE = re.compile(r"device (?:'[^']*' )?(?:not found|offline)|no devices/emulators|closed", re.I)
_REMEDIES = (
    (r"unauthorized", "unlock it and allow USB debugging for this computer"),
    (r"more than one", "`adb devices` lists them: --adb SERIAL names one"),
    (r"no devices|not found|offline", "is it plugged in, with USB debugging on? `adb devices`"),
)  # fmt: skip


class AdbBoard(RemoteBoard):
    """Each command is a connection of its own; adb's server keeps the line open."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        if shutil.which("adb") is None:
            raise ToolMissing(
                f"{device.name} is reached by ADB, and adb isn't on the PATH",
                hint="install Android's platform tools (Debian: `apt install adb`).",
            )
        self._reached = False

    def command(self, script: str) -> list[str]:
        serial = ["-s", self.device.serial] if self.device.serial else []
        # -T: no terminal, so that bytes go both ways as they are.
        return ["adb", *serial, "shell", "-T", f"sh -c {shlex.quote(script)}"]

    def root(self) -> str:
        if not self.folder and not self.device.folder:
            from dataclasses import replace

            self.device = replace(self.device, folder=FOLDER)
        return super().root()

    def judge(self, said: Said) -> None:
        words = " ".join(said.errors.split())[-300:]
        failed = said.code == 1 and re.match(r"(adb|error):", words)
        if not failed:
            self._reached = True
            return
        if self._reached and _GONE.search(words):
            raise Lost(words)
        hint = next((each for pattern, each in _REMEDIES if re.search(pattern, words, re.I)), "")
        raise DeviceUnreachable(
            f"{self.device.name} ({self.device.words}) can't be reached: {words}", hint=hint
        )
