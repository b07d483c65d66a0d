"""`edgepipe data`: what of some data a model would be fed."""

from __future__ import annotations

import json
from typing import Any

import click

from edgepipe.cli.convert import model_options, read_flags
from edgepipe.cli.data_options import data_options


@click.command()
@click.argument("data", metavar="DATA")
@model_options
@data_options
@click.option("--seed", type=int, help="Seed of the choice. Default: 0.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def data(data: str, as_json: bool, **flags: Any) -> None:
    """Show what of DATA is fed to MODEL: how many samples, labels, shapes, ranges, problems.

    DATA is a .npz, .npy or .csv file, a folder of images, .wav or .npy files (labels from its
    folders), module:function with --trust, or random. In place of MODEL, --input says its inputs.
    """
    from edgepipe import api

    model, arguments = read_flags(flags)
    found = api.survey(data, model, **arguments)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    of = f" of {found.available}" if found.available != found.samples else ""
    click.echo(f"{found.where}: {found.samples}{of} samples")
    for port in found.inputs:
        shape = "x".join(map(str, port["shape"])) or "scalar"
        click.echo(f"input   {port['name']} {shape} {port['dtype']}: {_range(port)}")
    if found.labels is not None:
        click.echo(f"labels  {_labels(found.labels)}")
    for word, texts in (("passed over", found.problems), ("warning", found.warnings)):
        for text in texts:
            click.secho(f"{word}: {text}", fg="yellow")


def _range(port: dict[str, Any]) -> str:
    if port["min"] is None:
        return "empty"
    return f"{port['min']:.6g} to {port['max']:.6g}, mean {port['mean']:.6g}, std {port['std']:.6g}"


def _labels(counts: dict[str, int]) -> str:
    shown = [f"{name}: {count}" for name, count in list(counts.items())[:20]]
    more = f" and {len(counts) - 20} more" if len(counts) > 20 else ""
    return f"{len(counts)} ({', '.join(shown)}{more})"
