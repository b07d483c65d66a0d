"""`edgepipe diagnose`: which layers of the int8 model cost the accuracy, and what helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgepipe.cli.convert import model_options, read_flags, run_options, set_colours
from edgepipe.cli.progress import Progress

SHOWN = 12
COSTLY = 0.005
"""Share of the final error from which on a layer's causes are worth lines; JSON has them all."""


@click.command()
@model_options
@click.option(
    "--int8", type=click.Path(path_type=Path), metavar="FILE",
    help="A quantized TFLite that MODEL, a float TFLite, was made into. Default: make one.",
)  # fmt: skip
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Write diagnosis.json and colours for Model Explorer here.",
)  # fmt: skip
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N",
    help="Samples to measure on, none of them calibrated on. Default: 8.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(min=0), metavar="S",
    help="Longest time for following errors to the outputs. Default: 90.",
)  # fmt: skip
@click.option("--layers", "most", type=click.IntRange(min=1), default=SHOWN, metavar="N",
    help="Layers to show, the costliest first. Default: 12.",
)  # fmt: skip
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the result.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the tools print.")
@click.option("--color/--no-color", default=None, help="Colours. Default: on a terminal.")
@click.pass_context
def diagnose(context: click.Context, /, **flags: Any) -> None:
    """Say which layers of MODEL's int8 version cost the accuracy, why, and what helps.

    Each layer's integer kernel runs on the float model's inputs; what it adds is followed to the
    outputs. Needs --calibration DATA, or --samples DATA beside --int8.
    """
    from edgepipe.diagnosis import diagnose as find

    as_json, most = flags.pop("as_json"), flags.pop("most")
    quiet, verbose = flags.pop("quiet"), flags.pop("verbose")
    set_colours(context, flags.pop("color"))
    model, arguments = read_flags(flags)
    with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
        found = find(model, listener=progress, **arguments)
    if as_json:
        click.echo(json.dumps(found.report, indent=2))
        return
    _show(found.report, most)
    for path in found.files.values():
        click.echo(f"  {path}")


def _show(report: dict[str, Any], most: int) -> None:
    for name, figures in report["outputs"].items():
        click.echo(
            f"output {name}: {figures['sqnr_db']:.1f} dB, cosine {figures['cosine']:.6f},"
            f" on {report['samples']} samples of {report['data']}"
        )
    for cause in report["causes"]:
        _tell(cause, "")
    layers = report["layers"]
    shown = layers[:most]
    click.echo(f"{'share':>6} {'own dB':>6}  {'op':<18} layer")
    for layer in shown:
        share = "-" if layer["share"] is None else f"{100 * layer['share']:.1f}%"
        own = "-" if layer["own_sqnr_db"] is None else f"{layer['own_sqnr_db']:.1f}"
        click.echo(f"{share:>6} {own:>6}  {layer['op'][:18]:<18} {_short(layer['layer'])}")
        costly = layer["share"] is None or layer["share"] >= COSTLY
        for cause in layer["causes"] if costly else ():
            _tell(cause, " " * 15)
    if len(layers) > len(shown):
        rest = sum(layer["share"] or 0.0 for layer in layers[most:])
        click.echo(f"{100 * rest:>5.1f}%         {len(layers) - most} more layers (--layers N)")


def _tell(cause: dict[str, str], margin: str) -> None:
    import textwrap

    from edgepipe.cli.folding import columns

    for mark, text, colour in (
        ("", f"{cause['name']}: {cause['words']}", "yellow"),
        ("→ ", cause["remedy"], None),
    ):
        lines = textwrap.wrap(f"{mark}{text}", max(40, min(100, columns()) - len(margin)))
        for line in lines:
            click.secho(margin + line, fg=colour)


def _short(name: str) -> str:
    """The end of a tensor's name tells more than its beginning."""
    return name if len(name) <= 44 else f"…{name[-43:]}"
