"""`edgepipe advise`: which targets suit a model, as a table and in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgepipe.cli.convert import model_options, read_flags, set_colours
from edgepipe.cli.data_options import data_options
from edgepipe.cli.progress import Progress


@click.command()
@model_options
@click.option(
    "--data", metavar="DATA",
    help="Samples of what the model is fed, see `edgepipe data`; or `random`.",
)  # fmt: skip
@click.option(
    "--target", "targets", multiple=True, metavar="NAME",
    help="Ask of this target only. Again for more. Default: tflite, openvino, edgetpu,"
    " ethos-u55-256, ethos-u65-512, ethos-u85-512.",
)  # fmt: skip
@click.option("--max-sram", metavar="SIZE", help="Ethos-U: the SRAM that there is, as 512K.")
@click.option("--max-flash", metavar="SIZE", help="Ethos-U: the flash for the model, as 1.5M.")
@click.option(
    "--repair", metavar="WHEN",
    help="auto (the default): where int8 loses more than the limit; off.",
)  # fmt: skip
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Keep the models and their reports here. Default: they are not kept.",
)  # fmt: skip
@click.option("--seed", type=int, help="Seed of noise and of choices. Default: 0.")
@click.option("--retry", is_flag=True, help="Try again what failed in an earlier run.")
@data_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the result.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the tools print.")
@click.option("--color/--no-color", default=None, help="Colours. Default: on a terminal.")
@click.pass_context
def advise(context: click.Context, /, **flags: Any) -> None:
    """Say which targets suit MODEL in int8, and what keeps the others from fitting.

    Each is converted for as far as this machine goes: latencies are measured on this CPU for
    tflite and openvino, and estimated for chips. What lacks here is told with its remedy.
    """
    from edgepipe import advice
    from edgepipe.cli import target_table
    from edgepipe.cli.folding import fold

    as_json, quiet, verbose = (flags.pop(name) for name in ("as_json", "quiet", "verbose"))
    set_colours(context, flags.pop("color"))
    model, arguments = read_flags(flags)
    with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
        found = advice.advise(model, listener=progress, **arguments)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    verdicts = {one.target: one.verdict for one in found.verdicts}
    for line in target_table.lines([one.row for one in found.verdicts], verdicts):
        click.echo(line)
    for line in found.words():
        click.echo(fold(line))
