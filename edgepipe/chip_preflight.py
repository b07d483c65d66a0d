"""`edgepipe.preflight`: where the operators of a model would run, on the chip named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from edgepipe.errors import OptionError, UnknownName
from edgepipe.targets.ethosu.accelerators import ACCELERATORS

if TYPE_CHECKING:
    from edgepipe.targets.edgetpu.preflight import Preflight as EdgetpuPreflight
    from edgepipe.targets.ethosu.preflight import Preflight as EthosuPreflight
    from edgepipe.targets.openvino.preflight import Preflight as OpenvinoPreflight

EDGETPU, OPENVINO = "edgetpu", "openvino"
TARGETS = (EDGETPU, OPENVINO, *ACCELERATORS)
Options = Mapping[str, Mapping[str, Any]]


@overload
def preflight(
    path: str | Path, multiple: bool = False, target: Literal["edgetpu"] = "edgetpu"
) -> EdgetpuPreflight: ...


@overload
def preflight(
    path: str | Path, multiple: bool = False, *, target: Literal["openvino"], device: str = ""
) -> OpenvinoPreflight: ...


@overload
def preflight(
    path: str | Path,
    multiple: bool = False,
    *,
    target: str,
    options: Options | None = None,
    device: str = "",
) -> EdgetpuPreflight | EthosuPreflight | OpenvinoPreflight: ...


def preflight(
    path: str | Path,
    multiple: bool = False,
    target: str = EDGETPU,
    options: Options | None = None,
    device: str = "",
) -> EdgetpuPreflight | EthosuPreflight | OpenvinoPreflight:
    """`multiple` is the Edge TPU compiler's `-a`; `options` are those of Vela's stage; `device`
    is one of OpenVINO's."""
    if target not in TARGETS:
        raise UnknownName.of("target of preflight", target, TARGETS)
    if device and target != OPENVINO:
        raise OptionError(f"--device is for OpenVINO's devices, and the target is {target}")
    if target == EDGETPU:
        from edgepipe.targets.edgetpu import preflight as edgetpu

        if options:
            raise OptionError("-O is for the Ethos-U's compiler, and the target is edgetpu")
        return edgetpu.preflight(path, multiple)
    if target == OPENVINO:
        from edgepipe.targets.openvino import preflight as openvino

        if multiple or options:
            raise OptionError("-a and -O are for chips' compilers, and the target is openvino")
        return openvino.preflight(path, device)
    from edgepipe.targets.ethosu import preflight as ethosu

    if multiple:
        raise OptionError(f"-a is for the Edge TPU's compiler, and the target is {target}")
    return ethosu.preflight(path, target, options)
