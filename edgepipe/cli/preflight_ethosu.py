"""What `edgepipe preflight` shows of an Ethos-U: places, Vela's reasons, what helps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgepipe.targets.ethosu.preflight import Preflight


def show(model: Path, found: Preflight) -> None:
    from edgepipe.cli.folding import fold
    from edgepipe.process_memory import words
    from edgepipe.report import ethosu

    figures, total = found.figures, len(found.verdicts)
    click.echo(
        f"{model}: {found.mapped} of {total} ops on the NPU of {figures.accelerator},"
        f" by Vela {figures.vela}"
    )
    if found.float_ops:
        click.echo(
            fold(
                f"  note: {found.float_ops} op(s) compute in float, as a repair may have left them;"
                " the NPU has integers only"
            )
        )
    click.echo(f"\n{'Operator':<30} {'Count':<10} Place\n")
    for (op, place), count in Counter((one.op, one.place) for one in found.verdicts).items():
        click.echo(f"{op:<30} {count:<10} {place}")
    click.echo("")
    for line in ethosu.told(figures.fallbacks):
        click.echo(fold(line))
    click.echo(f"SRAM {words(figures.sram_bytes)}, flash for the file {words(figures.file_bytes)}")
    for line in ethosu.speed(figures):
        click.echo(fold(line))
