"""`edgepipe report`: the HTML page of a report again, from its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgepipe.errors import InputError, PathError


@click.command()
@click.argument("report", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE",
              help="Where the page goes. Default: report.html beside REPORT.")  # fmt: skip
def report(report: Path, out: Path | None) -> None:
    """Make one self-contained HTML page of REPORT, a report.json or validation.json.

    What lies beside it is shown, too, where it tells of the same files: the models, a
    validation.json, a diagnosis.json.
    """
    from edgepipe import manifest
    from edgepipe.report.html import page

    source = report / "report.json" if report.is_dir() else report
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise PathError(
            f"{source} can't be read: {error.strerror}",
            hint="name the report.json of an earlier run, or its folder.",
        ) from error
    except ValueError as error:
        raise InputError(f"{source} is no JSON: {error}", hint="name a report.json.") from error
    target = out or source.with_name(page.NAME)
    made = page.of_file(data, source)
    try:
        page.write(target, made)
    except OSError as error:
        raise PathError(f"{target} can't be written: {error.strerror}", hint="-o FILE") from error
    if target.parent.resolve() == source.parent.resolve() and target.name == page.NAME:
        manifest.add(source.parent, [target.name])
    click.echo(f"  {target}")
