"""`edgepipe validate`: is the deployed model good enough, beside the float one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgepipe.cli.convert import loading_options, read_flags, set_colours
from edgepipe.cli.data_options import data_options
from edgepipe.cli.progress import Progress
from edgepipe.cli.result_files import ResultFiles, result_file_options
from edgepipe.cli.validation_options import settle, validation_options
from edgepipe.validation.asked import Asked


@click.command()
@click.argument("artifact")
@click.option(
    "--against", default="", metavar="MODEL",
    help="The float model; a file, or package.module:factory. Default: that of the report.",
)  # fmt: skip
@click.option(
    "--data", default="", metavar="DATA", help="Samples to compare on; see edgepipe data."
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Where validation.json goes. Default: ARTIFACT's folder of convert, or NAME_validation.",
)  # fmt: skip
@validation_options
@click.option("--device", default="", metavar="NAME", help="Run ARTIFACT on this device.")
@click.option(
    "--threads", type=click.IntRange(min=0), metavar="N",
    help="Threads of each process. Default: 1, of a single process the runtime's choice.",
)  # fmt: skip
@loading_options
@data_options
@click.option("--seed", type=int, help="Seed of choices. Default: 0.")
@result_file_options
@click.option("--retry", is_flag=True, help="Try again what failed in an earlier run.")
@click.option("--json", "as_json", is_flag=True, help="Print the document as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the tools print.")
@click.option("--color/--no-color", default=None, help="Colours. Default: on a terminal.")
@click.pass_context
def validate(context: click.Context, /, **flags: Any) -> None:
    """Run ARTIFACT beside the float model that it came from, on data, and say what it lost.

    ARTIFACT is anything that edgepipe runs, or the output folder of convert; of that the float
    model, the layouts and the preprocessing are known.
    """
    from edgepipe.report import validation
    from edgepipe.validation import validating

    artifact, as_json = flags.pop("artifact"), flags.pop("as_json")
    quiet, verbose = flags.pop("quiet"), flags.pop("verbose")
    set_colours(context, flags.pop("color"))
    settle(flags, validating=True)
    with ResultFiles(flags, Path(artifact).stem, flags["allow_undecided"]) as files:
        _, arguments = read_flags(flags)
        asked = Asked.of(artifact, arguments)
        with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
            found = validating.run(asked, progress)
        files.tell_validation(found.report)
        if as_json:
            click.echo(json.dumps(found.report, indent=2))
        elif not quiet:
            for line in validation.summary(found.report):
                click.echo(line)
            click.echo(f"  {found.path}")
            click.echo(f"  {found.path.with_name('report.html')}")
        found.check()
