"""Latency, memory, energy and placement in lines for a terminal; made of a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepipe.process_memory import words as size_words
from edgepipe.validation import placement
from edgepipe.validation.evidence import Placement

QUANTILES = ("p50", "p90", "p95", "p99")


def summary(report: Mapping[str, Any]) -> list[str]:
    """Nothing where nothing was measured."""
    found = report.get("latency")
    lines = [] if found is None else _latency(found)
    memory = report.get("memory")
    if memory is not None:
        lines.append(_memory(memory))
    energy = report.get("energy")
    if energy is not None:
        sides = [f"{_joules(energy['candidate'])} an inference"]
        if energy["baseline"]:
            sides.append(f"{_joules(energy['baseline'])} of the float model")
        lines.append(f"energy     {', '.join(sides)} ({energy['source']})")
    where = report.get("placement")
    if where is not None:
        lines.append(f"ran on     {placement.words(Placement(**where))}")
    return lines


def _latency(found: Mapping[str, Any]) -> list[str]:
    sides = [("float", found["baseline"]), ("deployed", found["candidate"])]
    rows: list[Sequence[str]] = [("latency", *QUANTILES, "mean", "load", "first", "runs")]
    for name, one in sides:
        if one is not None:
            cells = [_milliseconds(one[key]) for key in (*QUANTILES, "mean", "load", "cold")]
            rows.append((name, *cells, f"{one['runs']:,}"))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    ratio = found["ratio"]
    if ratio is not None:
        lines.append(
            f"ratio      {ratio['value']:.3g} [{ratio['low']:.3g}, {ratio['high']:.3g}] times as"
            f" long as the float model ({found['machine'].get('pairs', 0)} pairs by turns)"
        )
    rates = [
        f"{_rate(row['per_second'])}/s with {_count(row['threads'], 'thread')}"
        + (f", batch {row['batch']}" if row["batch"] > 1 else "")
        for row in found["candidate"]["throughput"]
    ]
    if rates:
        lines.append(f"throughput {'; '.join(rates)}")
    lines.append(f"machine    {_machine(found['machine'])}")
    return lines + [f"  {note}" for note in found["notes"]]


def _machine(facts: Mapping[str, Any]) -> str:
    parts = [f"{facts.get('cpu', '')}, {_count(facts.get('usable', 0), 'core')}"]
    if facts.get("quota"):
        parts.append(f"limited to {facts['quota']:g} of them")
    clock = facts.get("frequency_mhz")
    if clock:
        parts.append(f"{clock['max']:g} MHz")
    if facts.get("governor"):
        parts.append(f"governor {facts['governor']}")
    load = facts.get("load", {})
    if load.get("after") is not None:
        parts.append(f"load {load['after']:.1f}")
    asked = set(facts.get("threads", {}).values())
    if asked:
        words = ["the runtime's own" if not one else str(one) for one in sorted(asked)]
        parts.append(f"threads: {', '.join(words)}")
    return "; ".join(parts)


def _memory(memory: Mapping[str, Any]) -> str:
    parts = []
    if memory["process"] is not None:
        words = f"{size_words(memory['process'])} more in the process"
        if memory["process_baseline"] is not None:
            words += f" ({size_words(memory['process_baseline'])} of the float model)"
        parts.append(words)
    if memory["arena"] is not None:
        parts.append(f"arena {size_words(memory['arena'])}")
    return f"memory     {'; '.join(parts)}"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _joules(one: Mapping[str, Any]) -> str:
    return f"{1000 * one['value']:.3g} mJ [{1000 * one['low']:.3g}, {1000 * one['high']:.3g}]"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
