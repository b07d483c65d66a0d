"""The figures that Vela writes: its summary and its table by layer, as one record."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgepipe.errors import BrokenOutput
from edgepipe.targets.ethosu.vela_words import Fallback

KEY = "ethosu"
"""Where the report has them."""
ESTIMATE = "an estimate of Vela's, not a measurement"


@dataclass(frozen=True)
class Layer:
    """What the pieces that Vela cut an operator of the model into cost together."""

    op: str
    name: str
    cycles: int
    macs: int
    staging_bytes: int


@dataclass(frozen=True)
class Figures:
    """`sram_bytes` and so on are peaks by Vela's account; `cycles` and what follows of it are
    its estimate for the system that was assumed."""

    vela: str
    accelerator: str
    system: str
    mode: str
    assumed: tuple[str, ...]
    clock_hz: float
    sram_bandwidth: float
    other_bandwidth: float
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int
    file_bytes: int
    cycles: int
    npu_cycles: int
    seconds: float
    inferences_per_second: float
    macs: int
    weight_bytes: int
    encoded_weight_bytes: int
    ops: int
    fallbacks: tuple[Fallback, ...] = ()
    rewritten: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = field(default=(), repr=False)

    @property
    def on_npu(self) -> int:
        """Operators of the source model that the NPU runs."""
        return self.ops - len(self.fallbacks)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "on_npu": self.on_npu, "note": ESTIMATE}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Figures:
        known = {name: data[name] for name in Figures.__dataclass_fields__}
        for name in ("assumed", "rewritten", "warnings"):
            known[name] = tuple(data[name])
        known["fallbacks"] = tuple(Fallback(**one) for one in data["fallbacks"])
        known["layers"] = tuple(Layer(**one) for one in data["layers"])
        return Figures(**known)


def read_summary(folder: Path) -> dict[str, str]:
    """The one row of Vela's summary, by its own names."""
    found = sorted(folder.glob("*_summary_*.csv"))
    rows = _rows(found[0]) if found else []
    if len(rows) != 1:
        raise BrokenOutput(f"Vela ended well and left {len(rows)} rows of summary, expected 1")
    return rows[0]


def memory(row: dict[str, str], mode: str) -> dict[str, int]:
    """Peak bytes by memory."""
    used = {
        name: round(float(row[f"{name}_memory_used"]) * 1024)
        for name in ("sram", "dram", "on_chip_flash", "off_chip_flash")
    }
    flash = used["on_chip_flash"] + used["off_chip_flash"]
    if mode == "Sram_Only":  # Its constants are in the SRAM; Vela lists them as on-chip flash.
        return {"sram_bytes": used["sram"] + flash, "dram_bytes": used["dram"], "flash_bytes": 0}
    return {"sram_bytes": used["sram"], "dram_bytes": used["dram"], "flash_bytes": flash}


def bandwidth(row: dict[str, str], area: str) -> float:
    """Bytes a second, at most, of a memory in Vela's words: SRAM, DRAM, Off-chip Flash."""
    name = area.lower().replace("-", "_").replace(" ", "_")
    return float(row[f"{name}_bandwidth"]) * 2**30


def read_layers(folder: Path) -> tuple[Layer, ...]:
    """Vela's table by layer, its pieces added up; none where it wrote no table."""
    found = sorted(folder.glob("*_per-layer.csv"))
    total: dict[tuple[str, str], list[int]] = {}
    for row in _rows(found[0]) if found else []:
        sums = total.setdefault((row["Original Operator"], row["Name"]), [0, 0, 0])
        sums[0] += round(number(row["Op Cycles"]))
        sums[1] += round(number(row["MAC Count"]))
        sums[2] = max(sums[2], round(number(row["Staging Usage"])))
    return tuple(Layer(op, name, *sums) for (op, name), sums in total.items())


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float:
    """Of a field, which is empty or nan where all is on the CPU."""
    value = float(text or 0)
    return value if math.isfinite(value) else 0.0
