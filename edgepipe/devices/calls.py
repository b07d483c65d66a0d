"""`edgepipe.run_on_devices` and `edgepipe.compare`: boards by name, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepipe.devices import comparison, inventory, running
from edgepipe.devices.comparison import Comparison
from edgepipe.devices.inventory import Device
from edgepipe.devices.running import Asked, Result, Told


def named(names: Sequence[str]) -> list[Device]:
    """Boards of the inventory; NAME:DELEGATE is the same board, run otherwise."""
    found = []
    for name in dict.fromkeys(names):
        plain, _, delegate = name.partition(":")
        device = inventory.find(plain)
        found.append(replace(device, name=name, delegate=delegate) if delegate else device)
    return found


def run_on_devices(
    names: Sequence[str], bundle: str | Path, *, results: str | Path = "devices",
    told: Told | None = None, **asked: Any,
) -> list[Result]:  # fmt: skip
    """One bundle on boards, all at once. `asked` are the fields of `Asked`: delegate, threads."""
    return running.run_all(
        named(names), Path(bundle), Asked(**asked), Path(results), told or _silent
    )


def compare(
    names: Sequence[str], bundle: str | Path, *, results: str | Path = "devices",
    layer_samples: int = 1, told: Told | None = None, **asked: Any,
) -> Comparison:  # fmt: skip
    """The same bundle on boards, each beside the first, with the operator where they part."""
    return comparison.compare(
        named(names), Path(bundle), Asked(**asked), Path(results), told or _silent, layer_samples
    )


def _silent(name: str, event: str, facts: Mapping[str, Any]) -> None:
    pass
