"""What a compiled model may cost on its chip: the limits that a user sets."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from edgepipe.errors import OptionError


@dataclass(frozen=True)
class Gates:
    """None and False ask for nothing."""

    require_full_mapping: bool = False
    max_streamed_bytes: int | None = None
    runtime_version: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("max_streamed_bytes", 0), ("runtime_version", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                flag = "--" + name.replace("_", "-")
                raise OptionError(f"{flag} takes a number from {least} on, received {value}")

    def asked(self) -> list[str]:
        """The flags of those that are set."""
        return [
            "--" + name.replace("_", "-")
            for name, value in asdict(self).items()
            if value not in (None, False)
        ]
