"""What a chip will run of an artifact that no chip ran here, from the report of its conversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgepipe.report import compiled, ethosu
from edgepipe.validation.earlier import Earlier
from edgepipe.validation.evidence import Placement

COMPILED, FORETOLD = "as compiled", "as foretold"
CPU = "CPU"


@dataclass(frozen=True)
class OnChip:
    """The mapping of the compiler, or what preflight foretells where there was none."""

    placement: Placement
    streamed: int | None = None
    """Bytes of parameters that go to the chip at every inference; foretold: the most."""
    arena: int | None = None
    """Bytes of the chip's memory for tensors."""
    size: int | None = None
    """Bytes of the file that goes to the chip, where another one stands in for it."""


def of(found: Earlier | None) -> OnChip | None:
    """None where the artifact is not the one that the chip was meant to get."""
    if found is None or found.output != found.report["outputs"][-1]:
        return None
    chip = _of_report(found.report)
    return None if chip is None else replace(chip, size=found.output["size"])


def _of_report(report: Mapping[str, Any]) -> OnChip | None:
    vela = ethosu.figures_of(report)
    if vela is not None:
        left = [{"op": one.op, "name": one.output, "device": CPU} for one in vela.fallbacks]
        there = _rows({"": vela.on_npu}, vela.accelerator)
        return OnChip(
            _placed(f"{vela.accelerator}, {COMPILED}", there, left), None, vela.sram_bytes
        )
    facts = report.get(compiled.KEY)
    return None if facts is None else _edgetpu(facts)


def _edgetpu(facts: dict[str, Any]) -> OnChip:
    chip = "Edge TPU"
    if not facts["compiled"]:
        foretold = facts["foretold"]
        rows = [
            {"op": one["op"], "name": one["output"], "device": chip if one["mapped"] else CPU}
            for one in foretold["ops"]
        ]
        there = [row for row in rows if row["device"] == chip and not foretold["refused"]]
        left = [{**row, "device": CPU} for row in rows if row not in there]
        return OnChip(
            _placed(f"{chip}, {FORETOLD}", there, left), foretold["memory"]["streamed_most"]
        )
    model = facts["models"][0]
    there = _rows(model.get("mapped", {}), chip)
    left = _rows(model.get("unmapped", {}), CPU)
    return OnChip(_placed(f"{chip}, {COMPILED}", there, left), model["streamed_bytes"])


def _rows(counts: dict[str, int], device: str) -> list[dict[str, Any]]:
    return [
        {"op": op, "name": "", "device": device}
        for op, count in counts.items()
        for _ in range(count)
    ]


def _placed(device: str, there: list[dict[str, Any]], left: list[dict[str, Any]]) -> Placement:
    rows = [*({**row, "device": device} for row in there), *left]
    return Placement(device, len(there), len(rows), tuple(rows))
