"""`edgepipe store`: what was kept, how much room it takes, and whether it is whole."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgepipe.store_upkeep import Damage, Progress, StoreInfo

SIZES = {"": 1, "B": 1}
SIZES |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
SIZES |= {f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)}
TIMES = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
LIMIT_EXIT = 5

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")


def read_size(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Bytes, from a number with a unit."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", value.strip(), re.IGNORECASE)
    if found is None or found[2].upper() not in SIZES:
        raise click.BadParameter(f"expected a size such as 10GB, 500MB or 0, received {value!r}.")
    return round(float(found[1]) * SIZES[found[2].upper()])


def read_age(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """Seconds, from a number with a unit."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", value.strip().lower())
    if found is None:
        raise click.BadParameter(f"expected a time such as 30d, 12h or 2w, received {value!r}.")
    return float(found[1]) * TIMES[found[2]]


@click.group()
def store() -> None:
    """What earlier runs made and kept: how much it is, making room, checking it.

    The folder is EDGEPIPE_STORE, or `store` in edgepipe's cache.
    """


@store.command()
def path() -> None:
    """Print the store's folder."""
    from edgepipe.store import Store

    click.echo(str(Store().root))


@store.command()
@as_json
def info(as_json: bool) -> None:
    """Show how many results are kept, of what kind, and the room that they take."""
    from edgepipe.store import Store

    found = Store().info()
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print_info(found)


@store.command()
@click.option(
    "--max-size",
    callback=read_size,
    metavar="SIZE",
    help="Leave at most so much, such as 10GB; 0 for nothing.",
)
@click.option(
    "--older-than",
    callback=read_age,
    metavar="TIME",
    help="Remove what was not used for so long, such as 30d.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@as_json
def gc(max_size: int | None, older_than: float | None, dry_run: bool, as_json: bool) -> None:
    """Make room: remove results, the least recently used first.

    What another edgepipe is using right now stays. Removed results are made again when they are
    needed.
    """
    from edgepipe.process_memory import words
    from edgepipe.store import Store

    if max_size is None and older_than is None:
        raise click.UsageError("say what has to go: --max-size 10GB, --older-than 30d, or both.")
    report = Store().gc(max_size, older_than, dry_run)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
        return
    verb = "would remove" if dry_run else "removed"
    click.echo(f"{verb} {_counted(report.removed)}, {words(report.freed)}")
    click.echo(f"left: {_counted(report.entries_left)}, {words(report.bytes_left)}")
    if report.in_use:
        click.echo(f"in use, so not removed: {_counted(report.in_use)}")


@store.command()
@click.option("--repair", is_flag=True, help="Remove what is damaged, to be made again.")
@as_json
@click.pass_context
def verify(context: click.Context, repair: bool, as_json: bool) -> None:
    """Read every byte of every result and compare it with what was written.

    A run does so too with each result before it uses it, so damage does no harm: it costs the
    time to make the result again. Exits with 5 if something damaged is still there.
    """
    from edgepipe.store import Store

    with Store() as opened, _progress(as_json) as progress:
        entries = len(opened.all_keys())
        damaged = opened.verify(repair, progress)
    if as_json:
        told = {"entries": entries, "damaged": [asdict(each) for each in damaged]}
        click.echo(json.dumps(told, indent=2))
    else:
        _print_damage(entries, damaged)
    if not all(each.removed for each in damaged):
        context.exit(LIMIT_EXIT)


def _print_info(found: StoreInfo) -> None:
    from rich.console import Console
    from rich.table import Table

    from edgepipe.process_memory import words

    console = Console(highlight=False)
    console.print(
        f"{found.root}: {_counted(found.entries)}, {words(found.bytes)}",
        soft_wrap=True,
        markup=False,
    )
    if found.oldest is not None and found.newest is not None:
        console.print(f"made between {_day(found.oldest)} and {_day(found.newest)}")
    if found.damaged:
        console.print(f"damaged: {found.damaged}; `edgepipe store verify --repair` removes them")
    if found.kinds:
        table = Table("kind", "results", "size", box=None, pad_edge=False)
        for name, kind in sorted(found.kinds.items(), key=lambda item: -item[1].bytes):
            table.add_row(name, str(kind.entries), words(kind.bytes))
        console.print(table)


def _print_damage(entries: int, damaged: list[Damage]) -> None:
    for each in damaged:
        state = "removed" if each.removed else "damaged"
        click.echo(f"{state}: {each.what or 'unknown'} ({each.key[:12]}): {each.reason}")
    whole = entries - len(damaged)
    click.echo(f"{_counted(whole)} whole, {len(damaged)} damaged")
    if not all(each.removed for each in damaged):
        click.echo("`edgepipe store verify --repair` removes what is damaged.")


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress | None]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=what or "reading"
        )


def _counted(number: int) -> str:
    return "1 result" if number == 1 else f"{number} results"


def _day(when: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(when))
