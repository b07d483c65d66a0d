"""What the report says of a model compiled for an Ethos-U, in the lines that the command prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from edgepipe.gates import Gates
from edgepipe.micro import Micro
from edgepipe.process_memory import words
from edgepipe.targets.ethosu import fixes
from edgepipe.targets.ethosu.figures import KEY, Figures
from edgepipe.targets.ethosu.vela_words import Fallback

SHOWN = 5
"""Reasons for the CPU that are printed; the report has all."""


def figures_of(report: Mapping[str, Any]) -> Figures | None:
    """Vela's figures of the route that was chosen; None where nothing was compiled."""
    chosen = next((one for one in report["routes"] if one["status"] == "chosen"), None)
    steps = chosen["steps"] if chosen else []
    found = steps[-1]["summary"].get(KEY) if steps else None
    return None if found is None else Figures.from_json(found)


def summary(report: Mapping[str, Any]) -> list[str]:
    """Nothing where nothing was compiled."""
    found = figures_of(report)
    if found is None:
        return []
    request = report["request"]
    sram = Gates.read_size("--max-sram", request.get("max_sram", ""))
    flash = Gates.read_size("--max-flash", request.get("max_flash", ""))
    return [
        *_ran(report, found),
        *found.rewritten,
        _memory(found, sram, flash),
        *speed(found),
        *told(found.fallbacks),
    ]


def _ran(report: Mapping[str, Any], found: Figures) -> list[str]:
    chosen = next(one for one in report["routes"] if one["status"] == "chosen")
    micro = chosen["steps"][-1]["proof"]["micro"]
    where = f"{found.accelerator}: {found.on_npu} of {found.ops} ops on the NPU; not run on one"
    if micro is None:
        return [f"{where}, nor in LiteRT in its place, which lacks a custom operator"]
    stand_in = f"{where}, the quantized model stands in for it in LiteRT"
    return [stand_in, Micro(**micro).told()]


def speed(found: Figures) -> list[str]:
    """Vela's estimate, and for which board it holds."""
    if not found.cycles:
        return []
    return [
        f"estimated by Vela, not measured: {found.cycles:,} cycles,"
        f" {found.inferences_per_second:.1f} inferences/s ({found.seconds * 1000:.2f} ms) at"
        f" {found.clock_hz / 1e6:.0f} MHz",
        *_assumed(found),
    ]


def _memory(found: Figures, sram: int | None, flash: int | None) -> str:
    parts = [_of("SRAM", found.sram_bytes, sram)]
    if found.dram_bytes:
        parts.append(_of("DRAM", found.dram_bytes, None))
    return ", ".join([*parts, _of("flash for the file", found.file_bytes, flash)])


def _of(what: str, used: int, limit: int | None) -> str:
    return f"{what} {words(used)}" + (f" of {words(limit)}" if limit is not None else "")


def _assumed(found: Figures) -> list[str]:
    """In the place of Vela's warning that its defaults may be invalid: what they are."""
    if not found.assumed:
        return []
    names = {"system_config": found.system, "memory_mode": found.mode}
    said = " and ".join(f"{name} {names[name]}" for name in found.assumed)
    return [
        f"assumed: {said}, that is {found.clock_hz / 1e6:.0f} MHz, SRAM at"
        f" {found.sram_bandwidth / 1e9:.1f} GB/s, constants at"
        f" {found.other_bandwidth / 1e9:.2f} GB/s; on another board the file runs slower or not at"
        f" all: -O ethosu_from_tflite.{found.assumed[0]}=NAME",
    ]


def told(fallbacks: tuple[Fallback, ...]) -> list[str]:
    """Why operators are on the CPU, alike ones together, with what helps."""
    groups = Counter((one.op, _why(one), fixes.fix_for(one)) for one in fallbacks)
    lines = []
    for (op, why, advice), count in groups.most_common(SHOWN):
        lines += [f"on the CPU: {count} {op}: {why}", f"  → {advice}"]
    if len(groups) > SHOWN:
        lines.append(f"and {len(groups) - SHOWN} more reasons, in the report")
    return lines


def _why(found: Fallback) -> str:
    """Vela's constraint; its reason has the figures of one operator, so it counts where alone."""
    return found.constraint or found.reason or fixes.UNTOLD
