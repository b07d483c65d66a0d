"""`edgepipe toolchain`: list, install, doctor and remove the environments that stages run in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgepipe.artifact import Format
    from edgepipe.doctor import Finding
    from edgepipe.toolchain import Interpreter, Progress

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")


@click.group()
def toolchain() -> None:
    """The environments that stages run in: what is there, and how to get the rest.

    A toolchain's Python is the first of: one named in EDGEPIPE_PYTHON_<NAME> or edgepipe.toml,
    the one that edgepipe runs in if it has all that is needed, one made by `install`.
    """


@toolchain.command("list")
@as_json
def list_(as_json: bool) -> None:
    """Show each toolchain: versions, Python, size, where it is, and whether it is usable."""
    from edgepipe import catalog
    from edgepipe import toolchain as toolchains

    rows = [_row(name) for name in catalog.TOOLCHAINS]
    unused = [
        {"folder": str(each.folder), "size": each.size}
        for each in toolchains.made()
        if not each.current
    ]
    if as_json:
        click.echo(json.dumps({"toolchains": rows, "unused": unused}, indent=2))
    else:
        _print_rows(rows, unused)


def _row(name: str) -> dict[str, Any]:
    from edgepipe import toolchain as toolchains
    from edgepipe.errors import ToolchainMissing

    wanted = toolchains.spec(name)
    size = next((each.size for each in toolchains.made() if each.folder == wanted.folder), None)
    row: dict[str, Any] = {"name": name, "words": wanted.words, "requires": _requires(wanted)}
    try:
        found = toolchains.find(name)
    except ToolchainMissing as error:
        return {**row, "usable": False, "problem": error.message, "hint": error.hint, "size": size}
    return {
        **row,
        "usable": True,
        "how": found.how,
        "python": found.version,
        "where": str(found.python),
        "size": size if found.how == "made" else None,
        "versions": {each: found.versions[each] for each in wanted.main if each in found.versions},
        "fingerprint": found.fingerprint,
    }


def _requires(wanted: Any) -> dict[str, Any]:
    return {"python": wanted.python.text, "packages": [str(each) for each in wanted.requirements]}


def _print_rows(rows: list[dict[str, Any]], unused: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from edgepipe.process_memory import words

    console = Console(highlight=False)
    table = Table("toolchain", "state", "Python", "size", "versions", box=None, pad_edge=False)
    for row in rows:
        state = row["how"] if row["usable"] else "missing"
        versions = ", ".join(f"{name} {text}" for name, text in row.get("versions", {}).items())
        size = words(row["size"]) if row["size"] else ""
        table.add_row(
            row["name"],
            f"[green]{state}[/green]" if row["usable"] else f"[yellow]{state}[/yellow]",
            row.get("python", row["requires"]["python"]),
            size,
            versions or row["words"],
        )
    console.print(table)
    _print_notes(console, rows, unused)


def _print_notes(console: Any, rows: list[dict[str, Any]], unused: list[dict[str, Any]]) -> None:
    """Paths and problems in lines of their own, so that they can be copied whole."""
    from edgepipe.process_memory import words

    console.print()
    for row in rows:
        told = row["where"] if row["usable"] else f"{row['problem']}; {row['hint']}"
        console.print(f"{row['name']}: {told}", soft_wrap=True, markup=False)
    for each in unused:
        console.print(
            f"of another release of edgepipe, {words(each['size'])}: {each['folder']}",
            soft_wrap=True,
            markup=False,
        )


@toolchain.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--for", "target", metavar="TARGET", help="All that the routes to a target use.")
@click.option(
    "--from", "source", metavar="MODEL|FORMAT", help="With --for: the routes from this only."
)
@as_json
def install(names: tuple[str, ...], target: str | None, source: str | None, as_json: bool) -> None:
    """Make toolchains from their locks, in the cache. What is there already stays as it is."""
    from edgepipe import toolchain as toolchains

    wanted = [*names, *_needed(target, source)]
    if not wanted:
        raise click.UsageError("name a toolchain, or a target with --for TARGET.")
    for name in wanted:
        toolchains.spec(name)  # Refuses a name that there is none of, before a table is drawn.
    with _progress() as progress:
        made = toolchains.install(wanted, progress)
    if as_json:
        click.echo(json.dumps({"toolchains": [_told(each) for each in made]}, indent=2))
        return
    for each in made:
        click.echo(f"{each.toolchain}: {each.how}, Python {each.version}, {each.python}")


def _told(found: Interpreter) -> dict[str, Any]:
    return {
        "name": found.toolchain,
        "how": found.how,
        "python": found.version,
        "where": str(found.python),
        "fingerprint": found.fingerprint,
    }


def _needed(target: str | None, source: str | None) -> tuple[str, ...]:
    from edgepipe.toolchain_needs import needed_for

    if target is None:
        if source is not None:
            raise click.UsageError("--from goes with --for TARGET.")
        return ()
    return needed_for(target, None if source is None else _format(source))


def _format(text: str) -> Format:
    """A format by its name, or that of a model."""
    from edgepipe.artifact import Format
    from edgepipe.errors import UnknownName

    if text in [str(each) for each in Format]:
        return Format(text)
    if not Path(text).exists():
        raise UnknownName.of("format, and no such file:", text, map(str, Format))
    from edgepipe.identify import identify

    return identify(Path(text))


@contextmanager
def _progress() -> Iterator[Progress]:
    """A live table on a terminal, a line for each phase when piped; on standard error."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda name, phase, seconds: console.print(
            f"{name}: {phase} ({seconds:.1f} s)", soft_wrap=True, markup=False
        )
        return
    from rich.live import Live

    from edgepipe.cli.install_table import InstallTable

    table = InstallTable()
    with Live(table, console=console, refresh_per_second=8):
        yield table.enter


@toolchain.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@as_json
@click.pass_context
def doctor(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Run a tiny model in each toolchain and show which accelerators it sees.

    Ends with 3 if one that is there does not work, or one that was named is missing.
    """
    from edgepipe import catalog
    from edgepipe import toolchain as toolchains
    from edgepipe.errors import ToolchainMissing

    specs = [toolchains.spec(name) for name in names or catalog.TOOLCHAINS]
    findings, absent = [], []
    for wanted in specs:
        try:
            found = toolchains.find(wanted.name)
        except ToolchainMissing as error:
            absent.append(error)
            if not as_json:
                click.echo(f"{wanted.name}: missing: {error.message}")
            continue
        findings.append(_examined(wanted, found, say=not as_json))
    if as_json:
        told = {
            "toolchains": [each.to_json() for each in findings],
            "missing": [each.to_json() for each in absent],
        }
        click.echo(json.dumps(told, indent=2))
        context.exit(3 if (names and absent) or not all(each.works for each in findings) else 0)
    _judge([each for each in findings if not each.works], absent if names else [])


def _examined(wanted: Any, found: Interpreter, say: bool) -> Finding:
    from edgepipe.doctor import examine

    finding = examine(wanted, found)
    if say:
        seen = ", ".join(finding.accelerators) or "no accelerators, the CPU only"
        state = f"works ({seen})" if finding.works else f"does not work: {finding.problem}"
        click.echo(f"{wanted.name}: {state}, {finding.seconds:.1f} s")
        for line in finding.tail:
            click.echo(f"    {line}")
    return finding


def _judge(broken: list[Finding], absent: list[Any]) -> None:
    from edgepipe import toolchain as toolchains
    from edgepipe.errors import ToolchainFailed

    if broken:
        names = " ".join(each.toolchain for each in broken)
        raise ToolchainFailed(
            f"{len(broken)} of the toolchains there do not work: {names}",
            hint=f"make them again: `edgepipe toolchain remove {names}`, then"
            f" `edgepipe toolchain install {names}`; named ones are yours to mend.",
        )
    error = toolchains.missing([each.details["toolchain"] for each in absent])
    if error is not None:
        raise error


@toolchain.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="All that was ever made.")
@as_json
def remove(names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Delete made toolchains. Named and current interpreters are never touched."""
    from edgepipe import toolchain as toolchains
    from edgepipe.process_memory import words

    if bool(names) == everything:
        raise click.UsageError("name the toolchains to remove, or --all.")
    made = {each.name for each in toolchains.made()}
    for name in names:
        if name not in made:
            toolchains.spec(name)  # Refuses a name that there is none of.
    gone = toolchains.remove(made if everything else names)
    if as_json:
        told = [{"folder": str(each.folder), "size": each.size} for each in gone]
        click.echo(json.dumps({"removed": told}, indent=2))
        return
    for each in gone:
        click.echo(f"removed {each.folder} ({words(each.size)})")
    if not gone:
        click.echo("nothing to remove")
