"""`edgepipe plan`: the routes that convert would try, and what each of them needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from edgepipe.cli.convert import model_options, precision_option, read_flags, target_option

if TYPE_CHECKING:
    from edgepipe.plan import Route


@click.command()
@model_options
@target_option
@precision_option
@click.option("--route", default="", metavar="NAME", help="Only this route.")
@click.option("--options", "with_options", is_flag=True, help="List the options of each stage.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(as_json: bool, with_options: bool, **flags: Any) -> None:
    """Show the routes for MODEL, best first, without running anything."""
    model, arguments = read_flags(flags)
    show_plan(model, arguments, as_json, with_options)


def show_plan(
    model: str, arguments: dict[str, Any], as_json: bool, with_options: bool = False
) -> None:
    from edgepipe import api, toolchain

    routes = api.routes(model, **arguments)
    rows = []
    for route in routes:
        lacking = toolchain.missing(route.toolchains())
        rows.append(
            {
                "route": route.name,
                "stages": [stage.name for stage in route.stages],
                "toolchains": list(route.toolchains()),
                "missing": lacking.details.get("install", []) if lacking else [],
                "hint": lacking.hint if lacking else "",
                "program": _program_words(route),
            }
        )
    options = {
        stage.name: stage.options.names()
        for route in routes
        for stage in route.stages
        if stage.options.names()
    }
    if as_json:
        document: dict[str, Any] = {"format": str(routes[0].source), "routes": rows}
        click.echo(json.dumps({**document, "options": options}, indent=2))
        return
    click.echo(f"{model}: {routes[0].source}")
    for number, row in enumerate(rows, 1):
        click.echo(f"{number}. {row['route']}")
        click.echo(f"   {' → '.join(row['stages']) or 'nothing to convert'}")
        click.echo(f"   toolchains: {', '.join(row['toolchains'])}")
        if row["hint"]:
            click.secho(f"   missing: {row['hint']}", fg="yellow")
        if row["program"]:
            click.echo(f"   {row['program']}")
    if with_options:
        _show_options(options)


def _program_words(route: Route) -> str:
    """Whether the program that the last stage drives is on this machine; none is asked."""
    from edgepipe.stage import ProgramStage

    programs = [stage for stage in route.stages if isinstance(stage, ProgramStage)]
    return "; ".join(f"{stage.name}: {stage.whereabouts()}" for stage in programs)


def _show_options(options: dict[str, dict[str, str]]) -> None:
    click.echo("options (-O STAGE.FIELD=VALUE):")
    for stage, fields in options.items():
        for name, words in fields.items():
            click.echo(f"  {stage}.{name}  {words}")
