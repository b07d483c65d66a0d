"""What `edgepipe preflight` shows of a device of OpenVINO: kernels, what lacks one, what helps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgepipe.targets.openvino.preflight import Preflight, Verdict


def show(model: Path, found: Preflight) -> None:
    from edgepipe.cli.folding import fold
    from edgepipe.targets.openvino.preflight import GONE, RUNS

    where = ", ".join(found.runs_on)
    asked = found.device if where in ("", found.device) else f"{where} ({found.device})"
    have = "can be read" if found.unread_of else f"have a kernel on {asked}"
    click.echo(
        f"{model}: {found.mapped} of {found.total} ops {have},"
        f" by OpenVINO {found.openvino.partition('-')[0]}"
    )
    if found.refused:
        click.echo(fold(f"  the device refuses the model: {found.refused}"))
    if found.fell_back:
        click.echo(fold(f"  note: {found.fell_back}"))
    if found.unread_of:
        click.echo(fold("  note: no device was asked, for the model can't be read whole"))
    for name, types in (found.lacking or {}).items():
        if name not in (found.device, *found.runs_on):
            lacks = ", ".join(f"{count} {kind}" for kind, count in types.items()) or "nothing"
            click.echo(fold(f"  {name} lacks {lacks}"))
    click.echo(f"\n{'Operator':<30} {'Count':<10} Place\n")
    rows = Counter((one.op, _place(one)) for one in found.verdicts if one.status != GONE)
    for (op, place), count in sorted(rows.items(), key=lambda row: (-row[1], row[0])):
        click.echo(f"{op:<30} {count:<10} {place}")
    gone = sum(one.status == GONE for one in found.verdicts)
    if gone:
        click.echo(f"{'(others)':<30} {gone:<10} computed or merged while compiling")
    shown: set[tuple[str, str]] = set()
    for one in found.verdicts:
        if one.status not in (RUNS, GONE) and (one.op, one.status) not in shown:
            shown.add((one.op, one.status))
            click.echo(fold(f"\nop {one.index} {one.op} {one.name}\n  {one.reason}"))
            click.echo(fold(f"  → {one.fix}"))


def _place(one: Verdict) -> str:
    from edgepipe.targets.openvino.preflight import RUNS

    if one.status == RUNS:
        return f"{one.device} in {one.precision}" if one.precision else one.device
    return f"{one.device}, {one.status}" if one.device else one.status
