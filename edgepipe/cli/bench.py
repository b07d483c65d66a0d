"""`edgepipe bench`: how fast a model runs here, with an interval and without data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgepipe.cli.convert import loading_options, read_flags, set_colours
from edgepipe.cli.progress import Progress
from edgepipe.cli.validation_options import latency_options
from edgepipe.validation import limits
from edgepipe.validation.asked import BASELINES, DEVICES

PROSE = ("  ", "no ", "✓", "✗", "?")


def _measuring(command: Any) -> Any:
    for option in reversed(latency_options):
        command = option(command)
    return command


@click.command()
@click.argument("artifact")
@click.option(
    "--against", default="", metavar="MODEL",
    help="Another model, run by turns with ARTIFACT. Default: the float one of the report.",
)  # fmt: skip
@click.option(
    "--baseline", metavar="NAME",
    help=f"What runs the other model: {', '.join(BASELINES)}. Default: its own framework.",
)  # fmt: skip
@click.option("--baseline-device", metavar="NAME", help=f"{' or '.join(DEVICES)}. Default: cpu.")
@click.option("--device", default="", metavar="NAME", help="Run ARTIFACT on this device.")
@click.option(
    "--threads", type=click.IntRange(min=0), metavar="N",
    help="Threads of either side. Default: the runtime's choice.",
)  # fmt: skip
@_measuring
@click.option(
    "--gate", "gates", multiple=True, metavar="NAME=VALUE",
    help="max-latency-ratio=1.1, max-p99=20ms, max-size=512K, ...; exit code 5.",
)  # fmt: skip
@click.option(
    "--allow-undecided", is_flag=True, help="Let a gate pass that the time did not decide."
)
@loading_options
@click.option("--seed", type=int, help="Seed of the inputs and of the order. Default: 0.")
@click.option("--retry", is_flag=True, help="Try again what failed in an earlier run.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the document here."
)
@click.option("--json", "as_json", is_flag=True, help="Print the document as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the tools print.")
@click.option("--color/--no-color", default=None, help="Colours. Default: on a terminal.")
@click.pass_context
def bench(context: click.Context, /, **flags: Any) -> None:
    """Measure how fast ARTIFACT runs here: latency, load, memory, energy, and where its ops ran.

    With a float model beside it both run by turns, so that a noisy machine widens the interval
    of their ratio and doesn't move it. ARTIFACT may be an output folder of convert.
    """
    from edgepipe.cli.folding import fold
    from edgepipe.report import validation
    from edgepipe.validation import benching, validating

    artifact, as_json = flags.pop("artifact"), flags.pop("as_json")
    quiet, verbose, out = flags.pop("quiet"), flags.pop("verbose"), flags.pop("out")
    set_colours(context, flags.pop("color"))
    flags["gates"] = limits.pairs(flags["gates"])
    _, arguments = read_flags(flags)
    with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
        found = benching.bench(artifact, listener=progress, **arguments)
    text = json.dumps(found.to_json(), indent=2)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(text)
    elif not quiet:
        for line in validation.summary(json.loads(text)):
            # A table is wider than a narrow terminal, and a folded one is no table.
            click.echo(fold(line) if line.startswith(PROSE) else line)
    validating.check_gates(found.gates, arguments.get("allow_undecided", False), out or Path())
