"""The limits that a board is held to: validate's, as numbers in the runner's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepipe.errors import OptionError, UnknownName
from edgepipe.validation import limits
from edgepipe.validation.limits import Limit

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
"""What the runner can judge, and in what."""
OF_LABELS = ("max-drop", "min-top1")
OF_THE_HOST = {"min-host-sqnr": "min-sqnr", "max-steps": ""}
"""Those about the board beside the host, which validate knows nothing of; read as another one."""
QUANTIZED_DB, FLOAT_DB = 10.0, 40.0
"""Of the board against the host: kernels differ by some steps, and a broken delegate by all."""


def read(said: Sequence[str] | Mapping[str, Any]) -> list[dict[str, Any]]:
    """`NAME=VALUE`, as validate takes them, or a table as in edgepipe.toml."""
    table = dict(said) if isinstance(said, Mapping) else limits.pairs(said)
    found = [_read(name, value) for name, value in table.items()]
    return sorted(found, key=lambda item: str(item["name"]))


def _read(name: str, value: Any) -> dict[str, Any]:
    if name in OF_THE_HOST:
        return _row(name, _of_the_host(name, value), str(value))
    (limit,) = limits.read({name: value})
    known = "max-drop" if limit.about == "max-drop" and limit.metric == "top1" else name
    if known not in UNITS:
        raise UnknownName.of("limit that a board can judge", name, UNITS)
    return _row(known, _in_units(known, limit), limit.text)


def _in_units(name: str, limit: Limit) -> float:
    return limit.value / 100 if UNITS[name] == "share" else limit.value


def _of_the_host(name: str, value: Any) -> float:
    if OF_THE_HOST[name]:
        (limit,) = limits.read({OF_THE_HOST[name]: value})
        return limit.value
    try:
        number = int(str(value).removesuffix("steps"))
    except ValueError:
        number = -1
    if number < 0:
        raise OptionError(f"{name} takes a whole number of steps from 0 on, received {value!r}")
    return float(number)


def _row(name: str, value: float, said: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": UNITS[name], "said": said}
