"""`edgepipe bundle`: one file for a board, with all that a run there needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgepipe.cli.convert import set_colours
from edgepipe.cli.data_options import data_options, read_data_flags
from edgepipe.cli.progress import Progress
from edgepipe.errors import OptionError


@click.command()
@click.argument("out", required=False, default="")
@click.option("--data", metavar="DATA", help="Where the samples are; see `edgepipe data`.")
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), metavar="FILE",
    help="The bundle. Default: OUT.edgebundle here.",
)  # fmt: skip
@click.option(
    "--against",
    metavar="MODEL",
    help="The model that OUT was made of: of a single file, or where it was moved.",
)
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=1x3x224x224:float32",
    help="Shape and type of an input of --against. Again for more.",
)  # fmt: skip
@click.option(
    "--samples", type=click.IntRange(min=1), metavar="N", help="Samples to take. Default: 200."
)
@click.option(
    "--raw/--preprocessed", default=None,
    help="Samples as bytes, with the preprocessing; or as the model sees them. Default: as bytes"
    " where that gives the very same numbers.",
)  # fmt: skip
@data_options
@click.option("--seed", type=int, help="Seed of the choice of samples. Default: 0.")
@click.option(
    "--gate", "gates", multiple=True, metavar="NAME=VALUE",
    help="A limit that the board is held to: max-drop=0.5, max-latency=20. Again for more.",
)  # fmt: skip
@click.option(
    "--sign", type=click.Path(path_type=Path), metavar="FILE",
    help="Sign with this Ed25519 key; or EDGEPIPE_BUNDLE_SIGN has the key.",
)  # fmt: skip
@click.option("--encrypt", is_flag=True, help="Encrypt the models, by --key.")
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE",
    help="The key to encrypt with; or EDGEPIPE_BUNDLE_KEY has it.",
)  # fmt: skip
@click.option(
    "--keygen", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Make keys to sign and to encrypt with in this folder, and stop.",
)  # fmt: skip
@click.option("--trust", is_flag=True, help="Let the model or the data run code.")
@click.option("--python-path", multiple=True, metavar="DIR", help="Where your code is.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the tools print.")
@click.option("--color/--no-color", default=None, help="Colours. Default: on a terminal.")
@click.pass_context
def bundle(context: click.Context, /, **flags: Any) -> None:
    """Pack OUT, a folder that convert wrote, for a board: models, samples, what to expect.

    On the board, `python3 run_on_device.py FILE` (or `python3 FILE` alone) runs it. OUT may be a
    single TFLite or OpenVINO model, beside the one that it was made of, --against.
    """
    from edgepipe.bundling import sealing
    from edgepipe.bundling.bundle import bundle as make

    as_json, quiet, verbose = flags.pop("as_json"), flags.pop("quiet"), flags.pop("verbose")
    set_colours(context, flags.pop("color"))
    keygen = flags.pop("keygen")
    if keygen is not None:
        for made in sealing.make_keys(keygen):
            click.echo(f"  {made}")
        return
    said = {name: value for name, value in flags.items() if value not in (None, "", (), False)}
    said |= {"raw": flags["raw"]}
    out = said.pop("out", "")
    if not out or "data" not in said:
        raise OptionError(
            "bundle takes a folder that convert wrote, and data",
            hint="edgepipe bundle OUT --data DATA -o model.edgebundle",
        )
    if said.get("antialias") is None and flags["antialias"] is False:
        said["antialias"] = False
    read_data_flags(said)
    with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
        made_bundle = make(out, listener=progress, **said)
    if as_json:
        click.echo(json.dumps(made_bundle.manifest, indent=2))
    elif not quiet:
        for note in made_bundle.notes:
            click.echo(f"note: {note}", err=True)
        manifest = made_bundle.manifest
        models = ", ".join(model["name"] for model in manifest["models"])
        size = made_bundle.path.stat().st_size / (1 << 20)
        samples = manifest["samples"]["count"]
        click.echo(f"{made_bundle.path}: {models}; {samples} samples, {size:.1f} MiB")
        click.echo(f"  on the board: python3 run_on_device.py {made_bundle.path.name}")
