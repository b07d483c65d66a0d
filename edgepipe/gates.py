"""What a compiled model may cost on its chip: the limits that a user sets."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from edgepipe.errors import OptionError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMG])(?:i?B)?|B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Gates:
    """None and False ask for nothing."""

    require_full_mapping: bool = False
    max_streamed_bytes: int | None = None
    runtime_version: int | None = None
    max_sram: int | None = None
    max_flash: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("max_streamed_bytes", 0), ("runtime_version", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                flag = "--" + name.replace("_", "-")
                raise OptionError(f"{flag} takes a number from {least} on, received {value}")

    @staticmethod
    def read_size(flag: str, text: str) -> int | None:
        """Bytes of `512K` or `1.5M`; None where nothing was said."""
        if not text:
            return None
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise OptionError(
                f"{flag} takes a size, received {text!r}",
                hint=f"for instance {flag} 512K, or 1.5M.",
            )
        return int(float(match[1]) * _UNITS[(match[2] or "").upper()])

    def asked(self) -> list[str]:
        """The flags of those that are set."""
        return [
            "--" + name.replace("_", "-")
            for name, value in asdict(self).items()
            if value is not None and value is not False  # 0 is a limit
        ]
