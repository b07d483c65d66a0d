"""Limits as users write them: `max-drop = 0.5`, `--gate min-agreement=99%`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgepipe import catalog
from edgepipe.errors import OptionError, UnknownName
from edgepipe.validation.metrics import by_name
from edgepipe.validation.metrics.metric import PERCENT

LEVELS = {
    "max-drop": "what the first metric loses against the float model",
    "max-drop-since": "what it loses against the run that was accepted",
}
COSTS = {
    "max-latency-ratio": ("ratio", "the latency beside the float model's"),
    "max-latency": ("ms", "the median latency"),
    "max-p99": ("ms", "the latency that one run in a hundred exceeds"),
    "max-size": ("bytes", "the size of the model"),
    "max-memory": ("bytes", "what loading and running it adds to the process"),
    "max-arena": ("bytes", "the memory of its tensors"),
    "min-mapped": ("share", "the share of operators on the device"),
    "max-streamed-bytes": ("bytes", "the parameters that the chip has no room for"),
    "max-energy": ("joules", "the energy of one inference"),
    "max-latency-growth": ("share", "the growth of the latency since the accepted run"),
    "max-size-growth": ("share", "the growth of the size since the accepted run"),
}
"""In which unit, and of what; beside them `min-METRIC`, `max-METRIC` and `max-drop-METRIC`."""
SINCE = ("max-drop-since", "max-latency-growth", "max-size-growth")
"""Those that are about the run that was accepted."""

UNITS: dict[str, dict[str, float]] = {
    "ratio": {"": 1, "x": 1, "%": 0.01},
    "share": {"": 1, "%": 0.01},
    "ms": {"": 1, "ms": 1, "s": 1000, "us": 0.001, "µs": 0.001},
    "joules": {"": 1, "j": 1, "mj": 1e-3, "uj": 1e-6, "µj": 1e-6},
    "bytes": {
        "": 1, "b": 1,
        **{f"{letter}{tail}": 1024 ** (power + 1) for power, letter in enumerate("kmg")
           for tail in ("", "b", "ib")},
    },
}  # fmt: skip
EXAMPLES = {"ratio": "1.1", "share": "10%", "ms": "12 ms", "joules": "5 mJ", "bytes": "512 KiB"}
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(%|[a-zµ]*)", re.IGNORECASE)
_OF_METRIC = re.compile(r"(max-drop-since|max-drop|min|max)-(.+)")


@dataclass(frozen=True)
class Limit:
    """`about` is `max-drop`, `min` or `max` with the metric in `metric`, else the name itself."""

    name: str
    about: str
    value: float
    text: str
    metric: str = ""
    relative: bool = False
    """Of a metric without percents: the value is a share of the baseline's figure."""


def read(said: Mapping[str, Any]) -> tuple[Limit, ...]:
    """Of a table in edgepipe.toml."""
    return tuple(_read(name, value) for name, value in said.items())


def read_pairs(texts: Iterable[str]) -> tuple[Limit, ...]:
    """Of `--gate NAME=VALUE`."""
    return read(pairs(texts))


def pairs(texts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not value:
            raise OptionError(
                f"--gate takes NAME=VALUE, received {text!r}", hint="for instance max-drop=0.5."
            )
        if found.setdefault(name, value) != value:
            raise OptionError(f"--gate {name} is given twice: {found[name]} and {value}")
    return found


def names() -> list[str]:
    """All that can be limited, but for other `topK` and metrics of the user."""
    found = [*LEVELS, *COSTS]
    for metric in catalog.METRICS:
        found += [_level_name(metric), f"max-drop-{metric}", f"max-drop-since-{metric}"]
    return found


def metrics(limits: Iterable[Limit]) -> list[str]:
    """Those that the limits are about, so that they are measured."""
    return list(dict.fromkeys(limit.metric for limit in limits if limit.metric))


def _level_name(metric: str) -> str:
    return f"{'min' if by_name.named(metric).higher_is_better else 'max'}-{metric}"


def _read(name: str, value: Any) -> Limit:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise OptionError(
            f"{name} takes a number, or text like '0.5 points', received {value!r}",
            hint=f"for instance {name} = {_example(name)}.",
        )
    text = str(value).strip()
    if name in COSTS:
        unit = COSTS[name][0]
        number, _ = _number(name, text, unit)
        if unit in ("ratio", "ms") and number <= 0:
            raise OptionError(f"{name} takes a number above 0, received {text!r}")
        if number < 0 and name not in SINCE:
            raise OptionError(f"{name} takes a number from 0 on, received {text!r}")
        return Limit(name, name, number, text)
    if name in LEVELS:
        number, percent = _number(name, text, "")
        return Limit(name, name, number, text, relative=percent)
    about, metric = _parted(name)
    number, percent = _number(name, text, "")
    if about in ("min", "max"):
        return Limit(name, about, _level(metric, number, percent), text, metric)
    return Limit(name, about, number, text, metric, percent)


def _parted(name: str) -> tuple[str, str]:
    """`min` and `top1`; refuses a metric that nobody knows, and the wrong end of it."""
    match = _OF_METRIC.fullmatch(name)
    if match is None:
        raise UnknownName.of("gate", name, names())
    about, metric = match[1], match[2]
    if by_name.is_function(metric):
        return about, metric
    try:
        known = by_name.named(metric)
    except UnknownName:
        raise UnknownName.of("gate", name, names()) from None
    if about in ("min", "max") and name != _level_name(metric):
        better = "higher" if known.higher_is_better else "lower"
        raise OptionError(
            f"{name} would forbid the good: {metric} is the better the {better} it is",
            hint=f"did you mean {_level_name(metric)}?",
        )
    return about, known.name


def _level(metric: str, number: float, percent: bool) -> float:
    """`0.99`, `99` and `99%` of a share are the same; nobody asks for 0.99 per cent."""
    if by_name.is_function(metric):
        return number
    known = by_name.named(metric)
    share = known.unit == PERCENT
    if percent and not share:
        raise OptionError(
            f"{metric} is not measured in percent, received {number:g}%",
            hint=f"give it in {known.unit}." if known.unit else "give a number.",
        )
    if share and not percent and 0 <= number <= 1:
        return 100 * number
    if share and not 0 <= number <= 100:
        raise OptionError(f"{metric} goes from 0 to 100 %, received {number:g}")
    return number


def _number(name: str, text: str, unit: str) -> tuple[float, bool]:
    """The number in the limit's unit, and whether it was said in percent."""
    match = _NUMBER.fullmatch(text)
    tail = match[2].lower() if match else ""
    known = UNITS.get(unit, {"": 1.0, "%": 1.0, "points": 1.0, "point": 1.0, "db": 1.0})
    if match is None or tail not in known:
        units = ", ".join(one for one in known if one)
        raise OptionError(
            f"{name} takes a number with or without a unit ({units}), received {text!r}",
            hint=f"for instance {name} = {_example(name)}.",
        )
    return float(match[1]) * known[tail], tail == "%"


def _example(name: str) -> str:
    if name in COSTS:
        return repr(EXAMPLES[COSTS[name][0]])
    return "0.5" if name.startswith("max-drop") else "'99%'"
