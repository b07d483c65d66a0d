"""The Ethos-U configurations that Vela compiles for, and the boards that it assumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepipe.errors import ModelNotFound, OptionError, UnknownName

ACCELERATORS = (
    "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256",
    "ethos-u65-256", "ethos-u65-512",
    "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048",
)  # fmt: skip
"""`vela --help` of 5.2: the number behind is that of multiply-accumulates in a cycle."""

ARM_CONFIG = "Arm/vela.ini"
"""The file that comes with Vela; Vela finds it below its own folder by this name."""
AUTO = "auto"
_SYSTEM, _MODE = "System_Config.", "Memory_Mode."

MEMORY_MODES = (
    "Sram_Only", "Shared_Sram", "Dedicated_Sram",
    "Dedicated_Sram_256KB", "Dedicated_Sram_384KB", "Dedicated_Sram_512KB",
)  # fmt: skip
SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Ethos_U55_Deep_Embedded"),
    "ethos-u65": (
        "Ethos_U65_Client_Server", "Ethos_U65_High_End", "Ethos_U65_Mid_End", "Ethos_U65_Embedded",
    ),
    "ethos-u85": (
        "Ethos_U85_SYS_DRAM_Mid", "Ethos_U85_SYS_DRAM_Low", "Ethos_U85_SYS_DRAM_High",
        "Ethos_U85_SYS_Flash_Low", "Ethos_U85_SYS_Flash_High",
    ),
}  # fmt: skip
"""Those of Arm's file by family, the one that Vela takes by itself first."""
_FLASH_ONLY = ("Ethos_U65_Embedded", "Ethos_U85_SYS_Flash_Low", "Ethos_U85_SYS_Flash_High")
"""Systems whose second memory can't be written, so that all activations are in SRAM."""


@dataclass(frozen=True)
class System:
    """The configuration file and the two names in it that Vela is told."""

    config: str
    system: str
    mode: str
    assumed: tuple[str, ...]
    """Which of these the user left to us."""


def family(accelerator: str) -> str:
    """`ethos-u55` of `ethos-u55-256`."""
    return accelerator.rpartition("-")[0]


def system_of(accelerator: str, config: str, system: str, mode: str) -> System:
    """What is asked for, with Vela's own defaults for the rest; refuses what can't be meant."""
    if config:
        return _of_file(Path(config), system, mode)
    chip = family(accelerator)
    names = [name for one in SYSTEMS.values() for name in one]
    if system != AUTO and system not in names:
        raise UnknownName.of("system configuration", system, SYSTEMS[chip])
    if system != AUTO and system not in SYSTEMS[chip]:
        raise OptionError(  # Vela takes it without a word, and its figures are of another chip.
            f"the system configuration {system} isn't one for {accelerator}",
            hint=f"there are: {', '.join(SYSTEMS[chip])}; or name a file of your own with config.",
        )
    if mode != AUTO and mode not in MEMORY_MODES:
        raise UnknownName.of("memory mode", mode, MEMORY_MODES)
    assumed = tuple(
        words
        for words, value in (("system_config", system), ("memory_mode", mode))
        if value == AUTO
    )
    system = SYSTEMS[chip][0] if system == AUTO else system
    return System(ARM_CONFIG, system, _default_mode(system) if mode == AUTO else mode, assumed)


def _default_mode(system: str) -> str:
    """Vela's own, but where the second memory is a flash: there it would refuse its own default."""
    shared = system.startswith("Ethos_U55") or system in _FLASH_ONLY
    return "Shared_Sram" if shared else "Dedicated_Sram_384KB"


def _of_file(path: Path, system: str, mode: str) -> System:
    sections = _sections(path)
    systems = [name.removeprefix(_SYSTEM) for name in sections if name.startswith(_SYSTEM)]
    modes = [name.removeprefix(_MODE) for name in sections if name.startswith(_MODE)]
    return System(
        str(path),
        _chosen(path, "system configuration", "system_config", system, systems),
        _chosen(path, "memory mode", "memory_mode", mode, modes),
        (),
    )


def _chosen(path: Path, kind: str, option: str, name: str, known: list[str]) -> str:
    if not known:
        raise OptionError(
            f"{path} describes no {kind}",
            hint=f"it needs a section [{_SYSTEM if 'system' in kind else _MODE}NAME].",
        )
    if name != AUTO:
        if name not in known:
            raise UnknownName.of(f"{kind} in {path.name}", name, known)
        return name
    if len(known) > 1:
        raise OptionError(
            f"{path} describes {len(known)} of a {kind}: {', '.join(known)}",
            hint=f"say which: -O ethosu_from_tflite.{option}={known[0]}",
        )
    return known[0]


def _sections(path: Path) -> Iterable[str]:
    if not path.is_file():
        raise ModelNotFound(
            f"there is no Vela configuration file {path}",
            hint="leave config out for Arm's own, or name a .ini file in its format.",
        )
    from configparser import ConfigParser, Error

    parser = ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (Error, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise OptionError(f"{path} is no Vela configuration file: {first}") from error
    return parser.sections()
