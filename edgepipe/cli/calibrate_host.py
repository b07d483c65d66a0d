"""`edgepipe calibrate-host`: a host's profile for `estimate`, from latencies that were measured."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("calibrate-host")
@click.argument("measurements", type=click.Path(path_type=Path))
@click.option("--base", default="usb3", show_default=True, metavar="NAME",
              help="The profile that is scaled: the kind of host that was measured.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE",
              help="The profile, NAME.toml.")  # fmt: skip
def calibrate_host(measurements: Path, base: str, out: Path) -> None:
    """Write a profile from MEASUREMENTS, lines of `model_int8.tflite,milliseconds`.

    One latency scales the base's profile; two or more tell the fixed time from the rest.
    """
    from edgepipe.errors import OptionError
    from edgepipe.targets.edgetpu import host_calibration

    if out.suffix != ".toml":
        raise OptionError(f"-o takes a .toml file, received {out}", hint="-o my_host.toml")
    measured = host_calibration.read(measurements)
    profile = host_calibration.calibrate_host(measured, base)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(profile.to_toml(), encoding="utf-8")
    partial.replace(out)
    click.echo(f"{out}: from {len(measured)} latencies, error {profile.error:.0%}")
    click.echo(f"  edgepipe estimate MODEL --host {out}")
