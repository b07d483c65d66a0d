"""`edgepipe inspect`: a model's ends, ops, parameters and size, in any format, and its costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from edgepipe.artifact import Format
from edgepipe.cli import inspect_edgetpu, inspect_ethosu
from edgepipe.cli.convert import model_options, read_flags
from edgepipe.inputs import words as port_words

if TYPE_CHECKING:
    from rich.console import Console

    from edgepipe.api import Inspection


@click.command()
@model_options
@click.option("--layers", is_flag=True, help="Show every op of a TFLite or ONNX model.")
@inspect_edgetpu.edgetpu_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every op.")
def inspect(as_json: bool, layers: bool, **flags: Any) -> None:
    """Show what MODEL is, and what TFLite and ONNX models cost: MACs, bytes moved, peak memory.

    ONNX and TFLite need no toolchain unless a shape isn't in the file; others load in their
    framework. An --input that is given again, with another shape, shows how cost grows with it.
    """
    from edgepipe import api

    chip_flags = {name: flags.pop(name) for name in inspect_edgetpu.FLAGS}
    model, arguments = read_flags(flags)
    facts = api.inspect(model, **arguments)
    if facts.format is Format.ETHOSU:
        _inspect_ethosu(model, facts, chip_flags, layers, as_json)
        return
    compiled = inspect_edgetpu.decode(model, facts.description.ops, chip_flags)
    if as_json:
        extra = {"edgetpu": compiled.to_json()} if compiled else {}
        click.echo(json.dumps({**facts.to_json(), **extra}, indent=2))
    else:
        _show(model, facts, layers)
        if compiled:
            inspect_edgetpu.show(compiled)
    if compiled:
        inspect_edgetpu.check(model, compiled, chip_flags)


def _inspect_ethosu(
    model: str, facts: Inspection, flags: dict[str, Any], layers: bool, as_json: bool
) -> None:
    found, mapped = inspect_ethosu.decode(model, flags)
    if as_json:
        told = {**found.to_json(), **({"mapped": mapped} if mapped else {})}
        click.echo(json.dumps({**facts.to_json(), "ethosu": told}, indent=2))
    else:
        _show(model, facts, layers)
        inspect_ethosu.show(found, mapped)
    inspect_ethosu.check(model, found, flags)


def _show(model: str, facts: Inspection, layers: bool) -> None:
    from rich.console import Console

    from edgepipe import process_memory
    from edgepipe.cli import cost_table

    click.echo(f"{model}: {facts.format}, {process_memory.words(facts.size)}")
    click.echo(f"sha256: {facts.digest}")
    description, costs = facts.description, facts.costs
    scales = costs.sizes[0].scales if costs.sizes else {}
    ends = description.signature
    for kind, ports in (("input ", ends.inputs), ("output", ends.outputs)):
        for port in ports:
            click.echo(f"{kind}  {port_words(port)}")
            if port.name in scales:
                click.echo(f"        {cost_table.scale_words(scales[port.name])}")
    if description.parameters is not None:
        click.echo(f"parameters: {description.parameters:,}")
    for name, value in description.facts.items():
        if value not in (None, "", [], {}):
            click.echo(f"{name.replace('_', ' ')}: {value}")
    console = Console()
    if not costs.sizes:
        _show_ops(console, description.ops)
    cost_table.show(console, costs, layers)


def _show_ops(console: Console, ops: dict[str, int]) -> None:
    if not ops:
        return
    from rich.table import Table

    table = Table(title=f"{sum(ops.values())} ops", title_justify="left", box=None)
    table.add_column("type")
    table.add_column("count", justify="right")
    for name, count in sorted(ops.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(name, str(count))
    console.print(table)
