"""`edgepipe device`: boards by name: add, list, doctor, remove, and running models on them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from edgepipe.cli.device_run import run

if TYPE_CHECKING:
    from edgepipe.devices.examination import Finding
    from edgepipe.devices.inventory import Device

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")


@click.group()
def device() -> None:
    """Boards on which models are run and compared: over SSH or ADB, this machine, an emulated Arm.

    `host` is always there: this machine, with the toolchain edge.
    """


device.add_command(run)


@device.command()
@click.argument("name")
@click.option("--ssh", "address", metavar="[USER@]HOST[:PORT]", help="A board by SSH.")
@click.option("--adb", "serial", metavar="SERIAL|any", help="A board by ADB.")
@click.option("--local", is_flag=True, help="This machine, with a Python of your own.")
@click.option("--emulate", metavar="PROCESSOR", help="No board at all: aarch64 or armv7.")
@click.option("--cpu", default="", help="With --emulate: which core, such as cortex-a72.")
@click.option("--key", default="", metavar="FILE", help="The private key for --ssh.")
@click.option("--jump", default="", metavar="[USER@]HOST[:PORT]", help="A host on the way.")
@click.option("--python", default="", metavar="PATH", help="The board's Python (python3).")
@click.option("--folder", default="", metavar="PATH", help="The one folder that is made there.")
@click.option("--delegate", default="auto", help="auto, none, xnnpack, reference, edgetpu, a path.")
@click.option("--threads", default=0, type=click.IntRange(0), help="Threads (0: as the board has).")
@click.option("--force", is_flag=True, help="Replace a board of this name.")
@as_json
def add(name: str, as_json: bool, **given: Any) -> None:
    """Add a board to the inventory. An emulated one is made now, once for all of its kind."""
    from edgepipe.devices import inventory
    from edgepipe.devices.emulated_machine import choose_cpu, make, spec

    force = given.pop("force")
    found = _device(name, given)
    if found.kind == "emulated":
        machine = spec(found.machine)
        choose_cpu(machine, found.cpu)
        make(machine, lambda phase, seconds: _note(f"{name}: {phase} ({seconds:.1f} s)"))
    inventory.add(found, over=force)
    if as_json:
        click.echo(json.dumps({"device": found.to_json()}, indent=2))
        return
    click.echo(f"{name}: {found.words}; see what it has: edgepipe device doctor {name}")


def _device(name: str, given: dict[str, Any]) -> Device:
    from edgepipe.devices.inventory import Device, of_address

    ways = {way: given.pop(way) for way in ("address", "serial", "local", "emulate")}
    chosen = [way for way, value in ways.items() if value]
    if len(chosen) != 1:
        raise click.UsageError("say how it is reached: one of --ssh, --adb, --local, --emulate.")
    _refuse_strays(chosen[0], given)
    if chosen == ["address"]:
        given.pop("cpu")
        return of_address(name, ways["address"], **given)
    if chosen == ["serial"]:
        return Device(
            name, "adb", serial="" if ways["serial"] == "any" else ways["serial"], **given
        )
    if chosen == ["emulate"]:
        return Device(name, "emulated", machine=ways["emulate"], **given)
    return Device(name, "local", **given)


_ONLY = {
    "cpu": ("emulate",),
    "key": ("address",),
    "jump": ("address",),
    "folder": ("address", "serial"),
    "python": ("address", "serial", "local"),
}


def _refuse_strays(way: str, given: dict[str, Any]) -> None:
    for option, ways in _ONLY.items():
        if given[option] and way not in ways:
            names = {"address": "--ssh", "serial": "--adb", "emulate": "--emulate"}
            wanted = " or ".join(names.get(each, f"--{each}") for each in ways)
            raise click.UsageError(f"--{option} goes with {wanted}.")


def _note(words: str) -> None:
    click.echo(words, err=True)


@device.command("list")
@as_json
def list_(as_json: bool) -> None:
    """Show the boards and how each is reached."""
    from edgepipe.devices import inventory

    known = [inventory.find(inventory.HOST), *inventory.devices().values()]
    if as_json:
        rows = [{**each.to_json(), "words": each.words} for each in known]
        click.echo(json.dumps({"devices": rows, "file": str(inventory.path())}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("device", "reached", "Python", "delegate", "threads", box=None, pad_edge=False)
    for each in known:
        threads = str(each.threads or "")
        table.add_row(each.name, each.words, each.python, each.delegate, threads)
    Console(highlight=False).print(table)


@device.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@as_json
@click.pass_context
def doctor(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Say what boards have and what they lack, with the command that mends it. Ends with 3 if one
    of them can't run a model."""
    from edgepipe.devices import inventory
    from edgepipe.devices.examination import examine

    known = [inventory.find(name) for name in names or (inventory.HOST, *inventory.devices())]
    findings = []
    for each in known:
        findings.append(examine(each))
        if not as_json:
            _show(findings[-1])
    if as_json:
        told = [each.to_json() for each in findings]
        click.echo(json.dumps({"devices": told}, indent=2))
    context.exit(0 if all(each.ready for each in findings) else 3)


def _show(found: Finding) -> None:
    from edgepipe.process_memory import words as of_size

    click.echo(f"{found.device} ({found.words}): {'ready' if found.ready else 'not ready'}")
    if found.problem:
        click.echo(f"  {found.problem}")
        if found.hint:
            click.echo(f"  → {found.hint}")
        return
    facts = found.facts
    runtimes = ", ".join(f"{name} {told}" for name, told in facts["runtimes"].items())
    board = f"{facts['board']}, " if facts["board"] else ""
    click.echo(f"  {board}{facts['machine']}, {facts['cores']} cores, {facts['system']}")
    click.echo(f"  Python {facts['python']}, numpy {facts['numpy']}, {runtimes or 'no runtime'}")
    if facts["space"]:
        click.echo(f"  {of_size(facts['space']['free'])} free in {facts['space']['folder']}")
    for lack in found.lacks:
        click.echo(f"  {'lacks' if lack.fatal else 'short of'} {lack.what}\n    → {lack.mend}")


@device.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--leave-files", is_flag=True, help="Don't reach for the board to clean it.")
@as_json
def remove(names: tuple[str, ...], leave_files: bool, as_json: bool) -> None:
    """Take boards out of the inventory, and edgepipe's folder off them."""
    from edgepipe.devices import inventory
    from edgepipe.devices.board import open_board
    from edgepipe.errors import EdgepipeError

    told = []
    for name in names:
        gone = inventory.remove(name)
        row = {"name": name, "cleaned": False, "problem": ""}
        if not leave_files:
            try:
                with open_board(gone) as board:
                    board.clean()
                row["cleaned"] = True
            except EdgepipeError as error:
                row["problem"] = error.message
        told.append(row)
        if not as_json:
            problem = f"; it could not be cleaned: {row['problem']}" if row["problem"] else ""
            click.echo(f"removed {name}{problem}")
    if as_json:
        click.echo(json.dumps({"removed": told}, indent=2))
