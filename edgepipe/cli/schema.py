"""`edgepipe schema`: what an editor needs to know of edgepipe.toml."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write it there instead of printing it.",
)  # fmt: skip
def schema(out: Path | None) -> None:
    """Print the JSON schema of edgepipe.toml, for editors.

    With `#:schema ./edgepipe.schema.json` as the first line of edgepipe.toml, editors that use
    taplo (VS Code's Even Better TOML, Helix, Neovim) complete its keys and mark mistakes.
    """
    from edgepipe import delivery
    from edgepipe.project import schema as project_schema

    text = json.dumps(project_schema.document(), indent=1)
    if out is None:
        click.echo(text)
    else:
        delivery.write_text(out, text + "\n")
