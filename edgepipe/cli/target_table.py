"""The table by target that ends a run for several, within a hundred columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from edgepipe import catalog
from edgepipe.process_memory import words
from edgepipe.report.target_row import MEASURED, TargetRow

HEAD = ("target", "type", "size", "memory", "on chip", "latency", "like float")
NOTHING = "-"


def lines(rows: Sequence[TargetRow], verdicts: Mapping[str, str] | None = None) -> list[str]:
    """A line each; `verdicts` by target stand in the place of the type."""
    table = [HEAD, *(_cells(row) for row in rows)]
    if verdicts is not None:
        second = ["verdict", *(verdicts[row.target] for row in rows)]
        table = [(line[0], cell, *line[2:]) for line, cell in zip(table, second, strict=True)]
    widths = [max(len(line[at]) for line in table) for at in range(len(HEAD))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]


def show(rows: Sequence[TargetRow]) -> None:
    for line in lines(rows):
        click.echo(line)
    for row in rows:
        for note in _beside(row):
            click.echo(f"  {row.target}: {note}")


def _cells(row: TargetRow) -> tuple[str, ...]:
    if row.size is None:
        return (row.target, row.precision, row.status, *[NOTHING] * 4)
    memory, mapped, latency, like = NOTHING, NOTHING, NOTHING, NOTHING
    if row.memory_bytes is not None:
        memory = f"{words(row.memory_bytes)} {row.memory_of}"
    if row.accelerated is not None:
        mapped = f"{row.accelerated}/{row.ops}"
    if row.latency_ms is not None:
        latency = f"{row.latency_ms:.3g} ms, {'meas.' if row.latency_is == MEASURED else 'est.'}"
    if row.sqnr_db is not None:
        like = f"{row.sqnr_db:.1f} dB"
        if row.argmax_agreement is not None:
            like += f", {row.argmax_agreement:.1%}"
    return (row.target, row.precision, words(row.size), memory, mapped, latency, like)


def _beside(row: TargetRow) -> list[str]:
    """What the cells have no room for."""
    found = []
    if row.latency_ms is not None:
        found.append(f"latency {row.latency_is} {row.latency_of}")
    if row.size and not row.mapping and catalog.target(row.target).compiled is not None:
        found.append("not compiled, as was asked")
    if row.mapping == "foretold":
        found.append("not compiled, its mapping and memory are foretold")
    if row.streamed_bytes:
        found.append(f"{words(row.streamed_bytes)} streamed at every inference")
    return [*found, *row.notes]
