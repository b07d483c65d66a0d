"""`edgepipe inspect`: a model's ends, ops, parameters and size, in any format."""

from __future__ import annotations

import json
from typing import Any

import click

from edgepipe.cli.convert import model_options, read_flags
from edgepipe.inputs import words as port_words


@click.command()
@model_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(as_json: bool, **flags: Any) -> None:
    """Show what MODEL is. ONNX and TFLite need no toolchain; others load in their framework."""
    from edgepipe import api

    model, arguments = read_flags(flags)
    facts = api.inspect(model, **arguments)
    if as_json:
        click.echo(json.dumps({**facts.to_json()}, indent=2))
        return
    from edgepipe import process_memory

    click.echo(f"{model}: {facts.format}, {process_memory.words(facts.size)}")
    click.echo(f"sha256: {facts.digest}")
    description = facts.description
    for port in description.signature.inputs:
        click.echo(f"input   {port_words(port)}")
    for port in description.signature.outputs:
        click.echo(f"output  {port_words(port)}")
    if description.parameters is not None:
        click.echo(f"parameters: {description.parameters:,}")
    for name, value in description.facts.items():
        if value not in (None, "", [], {}):
            click.echo(f"{name.replace('_', ' ')}: {value}")
    _show_ops(description.ops)


def _show_ops(ops: dict[str, int]) -> None:
    if not ops:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{sum(ops.values())} ops", title_justify="left", box=None)
    table.add_column("type")
    table.add_column("count", justify="right")
    for name, count in sorted(ops.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(name, str(count))
    Console().print(table)
