"""The limits that a board is held to, as numbers in the runner's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepipe.errors import OptionError, UnknownName
from edgepipe.gates import Gates

UNITS = {
    "max-drop": "points",
    "min-top1": "share",
    "min-agreement": "share",
    "min-sqnr": "dB",
    "min-host-sqnr": "dB",
    "max-steps": "steps",
    "max-latency": "ms",
    "max-p99": "ms",
    "max-memory": "bytes",
}
"""What the runner can measure, and in what."""
QUANTIZED_DB, FLOAT_DB = 10.0, 40.0
"""Of the board against the host: kernels differ by some steps, and a broken delegate by all."""
WORDS = {
    "points": ("points", "point", "%", "pp"),
    "dB": ("db",),
    "ms": ("ms",),
    "steps": ("steps",),
}


def read(said: Sequence[str] | Mapping[str, Any]) -> list[dict[str, Any]]:
    """`NAME=VALUE`, as validate takes them, or a table as in edgepipe.toml."""
    pairs = list(said.items()) if isinstance(said, Mapping) else [_pair(text) for text in said]
    found = {}
    for name, text in pairs:
        name = name.replace("_", "-")
        if name not in UNITS:
            raise UnknownName.of("limit of a board", name, UNITS)
        found[name] = {
            "name": name,
            "value": _number(name, str(text).strip()),
            "unit": UNITS[name],
            "said": str(text),
        }
    return [found[name] for name in sorted(found)]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise OptionError(
            f"--gate takes NAME=VALUE, received {text!r}", hint="for instance max-drop=0.5."
        )
    return name.strip(), value


def _number(name: str, text: str) -> float:
    unit = UNITS[name]
    if unit == "bytes":
        return float(Gates.read_size(name, text) or 0)
    plain = text
    for word in WORDS.get(unit, ()):
        plain = plain.lower().removesuffix(word).strip()
    share = unit == "share" and plain.endswith("%")
    try:
        value = float(plain.removesuffix("%"))
    except ValueError as error:
        raise OptionError(f"--gate {name} takes a number of {unit}, received {text!r}") from error
    # A share of 71 can only be meant in percent, as edgepipe.toml has it.
    value = value / 100 if share or (unit == "share" and 1 < value <= 100) else value
    if value < 0 or (unit == "share" and value > 1) or value != value:
        raise OptionError(
            f"--gate {name} takes {'0 to 1' if unit == 'share' else '0 or more'}, received {text!r}"
        )
    return value
