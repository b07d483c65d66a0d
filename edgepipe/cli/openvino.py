"""`edgepipe openvino`: the devices that OpenVINO has here, and a model's time on one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgepipe.targets.openvino.devices import Devices
    from edgepipe.targets.openvino.profiling import Profile

SHOWN = 20
MILLI = 1000.0


@click.group()
def openvino() -> None:
    """Show OpenVINO's devices here, and what a model takes on one."""


@openvino.command()
@click.option("--properties", is_flag=True, help="Show every property of each device.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every property.")
def devices(properties: bool, as_json: bool) -> None:
    """List CPU, GPU and NPU as OpenVINO sees them: what each computes in, or why it isn't there.

    A device that isn't there has the reason and what would help. AUTO takes the best one.
    """
    from edgepipe.targets.openvino import devices as listing

    found = listing.devices()
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show_devices(found, properties)


def _show_devices(found: Devices, properties: bool) -> None:
    from edgepipe.cli.folding import fold

    click.echo(f"OpenVINO {found.version}; AUTO chooses of: {', '.join(found.auto)}\n")
    for one in found.devices:
        if not one.available:
            click.echo(fold(f"{one.name:<6} not here: {one.why}"))
            click.echo(fold(f"       → {one.help}"))
            continue
        streams = f", up to {one.streams[1]} streams" if one.streams else ""
        click.echo(fold(f"{one.name:<6} {one.full_name}: {', '.join(one.capabilities)}{streams}"))
        if properties:
            for key, value in one.properties.items():
                click.echo(f"       {key}: {json.dumps(value)}")


@openvino.command()
@click.argument("model")
@click.option("--device", metavar="NAME",
              help="CPU (the default), GPU, GPU.1, NPU, AUTO, or HETERO:GPU,CPU.")  # fmt: skip
@click.option("--hint", metavar="WHAT", help="latency (the default) or throughput.")
@click.option("--streams", metavar="N", help="Requests worked on at once. Default: the hint's.")
@click.option("--threads", type=click.IntRange(0), default=0, metavar="N",
              help="Threads of the CPU. Default: OpenVINO's choice.")  # fmt: skip
@click.option("--compute", metavar="TYPE",
              help="exact (the default), native (OpenVINO's own), f32, f16 or bf16.")  # fmt: skip
@click.option("--cache", is_flag=True, help="Keep what the device makes of it, for the next start.")
@click.option("--samples", metavar="DATA", help="What is fed; see `edgepipe data`. Default: noise.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=1x3x224x224",
              help="Shape of an input that is open. Again for more.")  # fmt: skip
@click.option("--repeats", type=click.IntRange(1), metavar="N", help="Runs. Default: 50.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), metavar="S",
              help="How long throughput is measured. Default: 1.")  # fmt: skip
@click.option("--layers", is_flag=True, help="Show every layer, in the device's order.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every layer.")
def profile(model: str, as_json: bool, layers: bool, **flags: Any) -> None:
    """Time MODEL, an OpenVINO .xml or its folder, on a device, as a whole and layer by layer.

    Latency is of one request after the other, throughput of as many as the hint asks for.
    Layers are the device's own, with the kernel of each; reorders show what a layout costs.
    """
    from edgepipe.targets.openvino import profiling

    said = {name: value for name, value in flags.items() if value not in (None, (), "", False)}
    names = {"hint": "hint", "streams": "streams", "compute": "precision", "cache": "cache"}
    settings = {names[name]: said.pop(name) for name in names if name in said}
    if "inputs" in said:
        said["inputs_as"] = said.pop("inputs")
    found = profiling.profile(model, settings=settings, **said)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show_profile(found, layers)


def _show_profile(found: Profile, layers: bool) -> None:
    times = sorted(found.times)
    where = ", ".join(found.runs_on)
    asked = "" if where == found.device else f" ({found.device})"
    click.echo(f"{found.model} on {where}{asked}")
    for name, value in found.facts.items():
        click.echo(f"  {name.replace('_', ' ')}: {value}")
    cached = ", from the cache" if found.from_cache else ""
    click.echo(
        f"loaded in {found.load * MILLI:.0f} ms{cached}, first run {found.cold * MILLI:.3f} ms"
    )
    p90 = times[min(len(times) - 1, int(len(times) * 0.9))]
    click.echo(
        f"latency: median {found.median * MILLI:.3f} ms, 90% within {p90 * MILLI:.3f} ms"
        f" ({len(times)} runs)"
    )
    click.echo(f"throughput: {found.throughput:,.0f} a second, {found.requests} request(s) at once")
    ran = [one for one in found.layers if one["executed"]]
    folded = len(found.layers) - len(ran)
    total = sum(one["seconds"] for one in ran)
    click.echo(
        f"\n{len(ran)} layers run, {total * MILLI:.3f} ms;"
        f" {folded} folded into others or free of cost\n"
    )
    if layers:
        _show_layers(found, total)
        return
    click.echo(f"{'share':>6} {'ms':>9} {'count':>6}  {'type':<22} kernel")
    rows = found.by_type()
    for op, kernel, count, seconds in rows[:SHOWN]:
        click.echo(
            f"{_share(seconds, total):>6} {seconds * MILLI:>9.3f} {count:>6}  {op:<22} {kernel}"
        )
    if len(rows) > SHOWN:
        click.echo(f"{'':>24} {len(rows) - SHOWN} more kinds; --layers shows every layer")


def _show_layers(found: Profile, total: float) -> None:
    click.echo(f"{'share':>6} {'ms':>9}  {'device':<7} {'type':<20} {'kernel':<26} layer")
    for one in found.layers:
        if one["executed"]:
            share, spent = _share(one["seconds"], total), f"{one['seconds'] * MILLI:.3f}"
        else:
            share, spent = "", "-"
        into = f" (in {one['into']})" if one["into"] else ""
        click.echo(
            f"{share:>6} {spent:>9}  {one['device']:<7} {one['op']:<20} {one['exec']:<26}"
            f" {one['name']}{into}"
        )


def _share(seconds: float, total: float) -> str:
    return f"{100 * seconds / total:.1f}%" if total else "-"
