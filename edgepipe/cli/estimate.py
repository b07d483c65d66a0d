"""`edgepipe estimate`: about how long an edge chip takes for a model, with its error band."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepipe.errors import OptionError

if TYPE_CHECKING:
    from edgepipe.targets.edgetpu.estimating import Estimate


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...",
                type=click.Path(path_type=Path))  # fmt: skip
@click.option("--target", type=click.Choice(["edgetpu"]), default="edgetpu", show_default=True,
              help="The chip.")  # fmt: skip
@click.option("--host", default="usb3", show_default=True, metavar="NAME",
              help="usb3, usb2, pcie, devboard, or a profile of your own, FILE.toml.")  # fmt: skip
@click.option("--segments", type=int, default=1, show_default=True, metavar="N",
              help="The best cut for a row of N devices.")  # fmt: skip
@click.option("--rates", default="", metavar="R,R,...",
              help="Inferences a second of several models that share a chip.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def estimate(
    models: tuple[Path, ...], target: str, host: str, segments: int, rates: str, as_json: bool
) -> None:
    """Estimate the latency of MODEL, an int8 TFLite file, on a chip behind a host.

    It is an estimate from others' measurements, not a measurement: look at the band. Several
    MODELs share the chip's memory and are shown in the best order for compiling them together.
    """
    from edgepipe.targets.edgetpu import estimating

    del target
    try:
        numbers = [float(one) for one in rates.split(",") if one.strip()]
    except ValueError as error:
        raise OptionError(f"--rates takes numbers, received {rates!r}", hint="30,5") from error
    found = estimating.estimate(*models, host=host, segments=segments, rates=numbers)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show(found)


def _show(found: Estimate) -> None:
    from edgepipe.cli.folding import fold
    from edgepipe.targets.edgetpu.estimating import WORDS

    host = found.host
    click.echo(f"{host.name}: {host.words}; {WORDS}")
    for one in found.models:
        click.echo(
            f"{one.model}: about {one.milliseconds:.1f} ms ({one.least:.1f} to {one.most:.1f} ms)"
        )
        click.echo(
            f"  parameters: {one.cached:.2f} MiB cached, {one.streamed:.2f} MiB streamed;"
            f" {one.work.gmac:.3f} GMAC, {one.work.activations:.1f} MiB of activations moved"
        )
        if one.cpu:
            click.echo(fold(f"  {one.cpu} ops run on the CPU, and their time is not in it"))
        if len(found.models) > 1:
            click.echo(f"  {one.rate:g} a second take {one.share:.0%} of the chip's time")
    for number, part in enumerate(found.segments):
        click.echo(
            f"  segment {number}: ops {part.first} to {part.end - 1}, about"
            f" {part.milliseconds:.1f} ms, {part.parameters:.2f} MiB of parameters,"
            f" {part.streamed:.2f} MiB streamed"
        )
        if number + 1 < len(found.segments):
            click.echo(fold(f"    cut behind {', '.join(part.outputs)}"))
    if found.segments:
        slowest = max(part.milliseconds for part in found.segments)
        total = sum(part.milliseconds for part in found.segments)
        click.echo(f"  in a row: one result every {slowest:.1f} ms, each after {total:.1f} ms")
