"""`edgepipe.preflight`: where the operators of a quantized model would run, on the chip named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from edgepipe.errors import OptionError, UnknownName
from edgepipe.targets.ethosu.accelerators import ACCELERATORS

if TYPE_CHECKING:
    from edgepipe.targets.edgetpu.preflight import Preflight as EdgetpuPreflight
    from edgepipe.targets.ethosu.preflight import Preflight as EthosuPreflight

EDGETPU = "edgetpu"
TARGETS = (EDGETPU, *ACCELERATORS)
Options = Mapping[str, Mapping[str, Any]]


@overload
def preflight(
    path: str | Path, multiple: bool = False, target: Literal["edgetpu"] = "edgetpu"
) -> EdgetpuPreflight: ...


@overload
def preflight(
    path: str | Path, multiple: bool = False, *, target: str, options: Options | None = None
) -> EdgetpuPreflight | EthosuPreflight: ...


def preflight(
    path: str | Path,
    multiple: bool = False,
    target: str = EDGETPU,
    options: Options | None = None,
) -> EdgetpuPreflight | EthosuPreflight:
    """`multiple` is the Edge TPU compiler's `-a`; `options` are those of Vela's stage."""
    if target not in TARGETS:
        raise UnknownName.of("target of preflight", target, TARGETS)
    if target == EDGETPU:
        from edgepipe.targets.edgetpu import preflight as edgetpu

        if options:
            raise OptionError("-O is for the Ethos-U's compiler, and the target is edgetpu")
        return edgetpu.preflight(path, multiple)
    from edgepipe.targets.ethosu import preflight as ethosu

    if multiple:
        raise OptionError(f"-a is for the Edge TPU's compiler, and the target is {target}")
    return ethosu.preflight(path, target, options)
