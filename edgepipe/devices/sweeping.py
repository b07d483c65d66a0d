"""Which settings a sweep tries on a board, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from edgepipe.devices.inventory import Device
from edgepipe.devices.running import Asked
from edgepipe.errors import OptionError

DELEGATES = ("xnnpack", "none", "reference")
THREADS = (1, 2, 4)
SAMPLES = 20
"""Of a sweep, unless --limit says otherwise: it is about time, and reference kernels are slow."""


def read(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`threads=1,2` and `delegate=none,xnnpack`; what isn't said is as above."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        listed = tuple(value for value in values.split(",") if value)
        numbers = all(value.isdigit() and int(value) for value in listed)
        if name not in ("threads", "delegate") or not listed or (name == "threads" and not numbers):
            raise OptionError(
                f"--over takes threads=1,2,4 or delegate=xnnpack,none,reference, received {text!r}"
            )
        found[name] = listed
    return found


def variants(device: Device, asked: Asked, over: dict[str, tuple[str, ...]]) -> list[Asked]:
    """Every delegate with every number of threads; threads say nothing where time isn't real."""
    delegates = over.get("delegate", DELEGATES)
    threads = tuple(map(int, over.get("threads", tuple(map(str, THREADS)))))
    if device.emulated:
        threads = (asked.threads,)
    limited = replace(asked, limit=asked.limit or SAMPLES)
    return [
        replace(limited, delegate=delegate, threads=number)
        for delegate, number in product(delegates, threads)
    ]
