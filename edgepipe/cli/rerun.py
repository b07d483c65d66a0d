"""`edgepipe rerun`: a run done again from its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgepipe.cli.convert import set_colours
from edgepipe.cli.progress import Progress
from edgepipe.errors import OptionError


@click.command()
@click.argument("report", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Keep the files there. Default: they are compared and forgotten.",
)  # fmt: skip
@click.option("--kept", is_flag=True, help="Take what the store has instead of making it again.")
@click.option("--exact", is_flag=True, help="Exit with 5 if any file is not the same bit for bit.")
@click.option(
    "--moved", multiple=True, metavar="OLD=NEW",
    help="Where files or folders of the report are now. Again for more.",
)  # fmt: skip
@click.option(
    "--allow-changed", is_flag=True, help="Run it though the model or the data are others now."
)
@click.option("--trust", is_flag=True, help="Let the report run code and name programs.")
@click.option("--json", "as_json", is_flag=True, help="Print what differs as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but what is worse.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the tools print.")
@click.option("--color/--no-color", default=None, help="Colours. Default: on a terminal.")
@click.pass_context
def rerun(context: click.Context, /, **flags: Any) -> None:
    """Do the run of REPORT again, from nothing, and say what differs.

    REPORT is the report.json of a conversion; its validation is done again, too. Exits with 0 if
    the files are the same or no figure is worse, and with 5 if one is.
    """
    from edgepipe import repetition as again
    from edgepipe.cli.folding import fold

    as_json, quiet, verbose = flags.pop("as_json"), flags.pop("quiet"), flags.pop("verbose")
    exact = flags.pop("exact")
    set_colours(context, flags.pop("color"))
    flags["moved"] = dict(map(_pair, flags["moved"]))
    before = again.read(flags.pop("report"))
    with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
        found = again.run(before, again.Asked(**flags), progress)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        for one in found.worse if quiet else found.differences:
            click.echo(fold(one.words()))
        if not quiet:
            click.echo(_verdict(found))
    context.exit(found.exit_code(exact))


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not equals or not old or not new:
        raise OptionError(f"--moved takes OLD=NEW, received {text!r}")
    return str(Path(old).absolute()), str(Path(new).absolute())


def _verdict(found: Any) -> str:
    if found.error is not None:
        return f"the run failed: {found.error.message}"
    count = len(found.after["outputs"])
    files = "1 file" if count == 1 else f"{count} files"
    if found.worse:
        return f"worse than it was, in {len(found.worse)} points"
    return f"{files} the same bit for bit" if found.same_files else "not the same, and not worse"
