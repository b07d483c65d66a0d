"""`edgepipe.openvino_devices`: what OpenVINO can run on here, and what keeps other devices away."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgepipe import toolchain
from edgepipe.session import Session
from edgepipe.store import Store

TOOLCHAIN = "openvino"


@dataclass(frozen=True)
class Device:
    """One device, or a kind of which there is none here: `why`, and `help` to get it."""

    name: str
    available: bool
    full_name: str = ""
    capabilities: tuple[str, ...] = ()
    streams: tuple[int, int] | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    help: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Devices:
    """`auto`: in which order AUTO would take them."""

    version: str
    devices: tuple[Device, ...]
    auto: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "openvino": self.version,
            "devices": [one.to_json() for one in self.devices],
            "auto": list(self.auto),
        }


def devices() -> Devices:
    """Ask OpenVINO, in a worker; nothing is kept, for a device may be plugged in."""
    lacking = toolchain.missing([TOOLCHAIN])
    if lacking is not None:
        raise lacking
    with Store() as store, Session(store) as session:
        answer = session.call(
            TOOLCHAIN,
            "edgepipe.runners.openvino_devices:listing",
            session.log("openvino-devices"),
        )
    told = dict(answer.value)
    return Devices(told["openvino"], tuple(map(_device, told["devices"])), tuple(told["auto"]))


def ask(session: Session, device: str) -> None:
    """Raises DeviceMissing, with what there is, where OpenVINO has no such device."""
    session.call(
        TOOLCHAIN,
        "edgepipe.runners.openvino_devices:require",
        session.log("openvino-device"),
        device=device,
    )


def _device(told: dict[str, Any]) -> Device:
    streams = told.pop("streams", None)
    return Device(
        **{**told, "capabilities": tuple(told.pop("capabilities", ()))},
        streams=(int(streams[0]), int(streams[1])) if streams else None,
    )
