"""What a validation saw, in lines for a terminal; made of its document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepipe.report import measured

MARKS = {"passed": "✓", "failed": "✗", "undecided": "?"}


def summary(report: Mapping[str, Any]) -> list[str]:
    """The sides, a line for each score, a line for each gate."""
    lines = []
    data = report["data"]
    if data is not None:
        lines.append(f"{data['samples']:,} samples of {data['where']}, {data['seconds']:.1f} s")
    lines.append(f"candidate  {_side(report['candidate'])}")
    if report["baseline"] is not None:
        lines.append(f"baseline   {_side(report['baseline'])}")
    lines += _scores(report["scores"], several=len({one["output"] for one in report["scores"]}) > 1)
    lines += measured.summary(report)
    lines += [f"{MARKS[gate['verdict']]} {gate['words']}" for gate in report["gates"]]
    lines += [f"no {name}: {why}" for name, why in report["absent"].items()]
    return lines


def _side(side: Mapping[str, Any]) -> str:
    threads = f", {side['threads']} threads" if side["threads"] else ""
    return f"{side['label'] or side['file']}, {side['device']}{threads}"


def _scores(scores: list[dict[str, Any]], several: bool) -> list[str]:
    if not scores:
        return []
    rows: list[tuple[str, ...]] = [("metric", "float", "deployed", "difference")]
    for one in scores:
        name = f"{one['metric']} of {one['output']}" if several else one["metric"]
        unit = f" {one['unit']}" if one["unit"] else ""
        apart = " points" if one["unit"] == "%" else unit
        cells = [_interval(one[side], unit) for side in ("baseline", "candidate")]
        cells.append(_interval(one["difference"], apart))
        rows.append((name, *cells))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _interval(one: Mapping[str, Any] | None, unit: str) -> str:
    if one is None:
        return "-"
    if not one["level"]:
        return f"{one['value']:.4g}{unit}"
    return f"{one['value']:.4g}{unit} [{one['low']:.4g}, {one['high']:.4g}]"
