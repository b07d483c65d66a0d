"""`edgepipe verify`: whether a folder or a bundle still holds what was written."""

from __future__ import annotations

import json
from pathlib import Path

import click

CHANGED_EXIT = 5


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Bring back what the store still has.")
@click.option("--allow-added", is_flag=True, help="Files that no run wrote are no fault.")
@click.option(
    "--public-key", type=click.Path(path_type=Path), default=None, metavar="FILE",
    help="Of a bundle: refuse one that is not signed with the key of this one.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")
@click.pass_context
def verify(
    context: click.Context,
    folder: Path,
    repair: bool,
    allow_added: bool,
    public_key: Path | None,
    as_json: bool,
) -> None:
    """Compare every byte in FOLDER with its manifest.json; FOLDER may be a bundle, too.

    Names what is missing, what was changed and what was added since, and exits with 5 then.
    """
    if folder.is_file():
        _verify_bundle(folder, public_key, as_json)
        return
    from edgepipe import manifest

    found = manifest.verify(folder, repair)
    failed = not found.whole or (bool(found.added) and not allow_added)
    if as_json:
        click.echo(json.dumps({**found.to_json(), "whole": not failed}, indent=2))
    else:
        _show(found, failed)
    if failed:
        context.exit(CHANGED_EXIT)


def _verify_bundle(path: Path, public_key: Path | None, as_json: bool) -> None:
    from edgepipe.bundling import checking

    manifest = checking.check(path, public_key or "")
    if as_json:
        click.echo(json.dumps({**manifest, "whole": True}, indent=2))
        return
    click.echo(f"{len(manifest['files'])} files as they were written, {manifest['signature']}")


def _show(found: object, failed: bool) -> None:
    from edgepipe.manifest import Check

    assert isinstance(found, Check)
    for kind in ("restored", "missing", "changed", "added"):
        for name in getattr(found, kind):
            kept = found.kept.get(name) == "whole" and kind in ("missing", "changed")
            click.echo(f"{kind}: {name}{', the store has it whole' if kept else ''}")
    differ = len(found.missing) + len(found.changed)
    click.echo(f"{found.files - differ} of {found.files} files as they were written")
    if any(found.kept.get(name) == "whole" for name in (*found.missing, *found.changed)):
        click.echo("`edgepipe verify --repair` brings back what the store has.")
    elif differ:
        click.echo("`edgepipe rerun` makes them again from the report.")
