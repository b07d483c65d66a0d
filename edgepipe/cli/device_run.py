"""`edgepipe device run`: one bundle on boards, its results beside the host's."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepipe.cli.data_options import data_options, read_data_flags

if TYPE_CHECKING:
    from edgepipe.devices.inventory import Device
    from edgepipe.devices.running import Asked, Result, Told

Command = Callable[..., Any]


def board_options(command: Command) -> Command:
    """What says what is run on boards, and how; `compare` shares it."""
    for option in reversed(
        (
            click.option("--data", metavar="DATA", help="The samples; see `edgepipe data`."),
            click.option(
                "--samples", type=click.IntRange(min=1), metavar="N",
                help="How many. Default: 200.",
            ),
            data_options,
            click.option(
                "--seed", type=int, help="Seed of the choice of samples. Default: 0."
            ),
            click.option(
                "--delegate", default="",
                help="Instead of the board's own, as `none` or `xnnpack`.",
            ),
            click.option(
                "--device", "runtime_device", default="", help="usb, :0 of Edge TPUs; CPU, GPU."
            ),
            click.option(
                "--threads", default=0, type=click.IntRange(0), help="Instead of the board's own."
            ),
            click.option(
                "--only", multiple=True, metavar="MODEL", help="Of several models; again for more."
            ),
            click.option(
                "--first", default=0, type=click.IntRange(0), help="Only the first N samples."
            ),
            click.option("--no-latency", is_flag=True, help="Don't measure it."),
            click.option(
                "--timeout", "seconds", default=1800.0,
                help="Seconds for one board. Default: 1800.",
            ),
            click.option(
                "--key", type=click.Path(path_type=Path), metavar="FILE",
                help="Of encrypted models; or EDGEPIPE_BUNDLE_KEY has it.",
            ),
            click.option(
                "--public-key", type=click.Path(path_type=Path), metavar="FILE",
                help="Check the bundle's signature on the board.",
            ),
            click.option(
                "--results", type=click.Path(path_type=Path), metavar="FOLDER",
                help="Where results go. Default: OUT/devices, or devices here.",
            ),
            click.option("--trust", is_flag=True, help="Let the model or the data run code."),
            click.option("--python-path", multiple=True, metavar="DIR", help="Where your code is."),
            click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words."),
            click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.argument("out", metavar="OUT|BUNDLE")
@board_options
@click.option(
    "--gate", "gates", multiple=True, metavar="NAME=VALUE",
    help="A limit that the boards are held to: see `edgepipe bundle`.",
)  # fmt: skip
@click.option("--sweep", is_flag=True, help="Run with every delegate and number of threads.")
@click.option(
    "--over", multiple=True, metavar="threads=1,2|delegate=none,xnnpack",
    help="What a sweep goes over.",
)  # fmt: skip
@click.option("--allow-undecided", is_flag=True, help="Pass where samples are too few to tell.")
@click.pass_context
def run(context: click.Context, /, **flags: Any) -> None:
    """Run what convert wrote to OUT on boards, all at once, and put what they say into its report.

    A bundle is made of OUT with --data, and only what changed of it is copied; or BUNDLE is one
    that was made before. Ends as the worst of the boards does.
    """
    from edgepipe.devices import inventory, merging, sweeping

    given = {key: flags.pop(key) for key in ("out", "as_json", "quiet", "sweep", "over", "results")}
    devices = [inventory.find(name) for name in dict.fromkeys(flags.pop("names"))]
    out = Path(given["out"])
    asked = asked_of(flags)
    over = sweeping.read(given["over"])
    if over and not given["sweep"]:
        raise click.UsageError("--over goes with --sweep.")
    target = given["results"] or (out / "devices" if out.is_dir() else Path("devices"))
    quiet = given["quiet"] or given["as_json"]
    with bundle_of(out, flags, quiet) as bundle, telling(quiet) as told:
        if given["sweep"]:
            found = _swept(devices, bundle, asked, over, target, told)
        else:
            from edgepipe.devices.running import run_all

            found = run_all(devices, bundle, asked, target, told)
    if out.is_dir() and (out / merging.REPORT).is_file():
        merging.merge(out, found)
    entries = [merging.entry(result) for result in found]
    if given["as_json"]:
        click.echo(json.dumps({"devices": entries}, indent=2))
    elif not given["quiet"]:
        show(entries)
    context.exit(worst_of(found))


def asked_of(flags: dict[str, Any]) -> Asked:
    from edgepipe.devices.running import Asked

    return Asked(
        delegate=flags.pop("delegate"),
        threads=flags.pop("threads"),
        device=flags.pop("runtime_device"),
        only=tuple(flags.pop("only")),
        limit=flags.pop("first"),
        latency=not flags.pop("no_latency"),
        allow_undecided=flags.pop("allow_undecided"),
        seconds=flags.pop("seconds"),
        key=flags.pop("key"),
        public_key=flags.pop("public_key"),
    )


@contextmanager
def bundle_of(out: Path, flags: dict[str, Any], quiet: bool) -> Iterator[Path]:
    """The bundle that was named, or one of the folder, which goes with the run."""
    from edgepipe.errors import OptionError

    if not out.is_dir():
        if flags["data"]:
            raise OptionError(
                f"--data goes with a folder of convert's, and {out} is none",
                hint="a bundle holds its samples: leave --data out.",
            )
        yield out
        return
    if not flags["data"]:
        raise OptionError(
            f"a bundle of {out} needs samples", hint="name them with --data; see `edgepipe data`."
        )
    from edgepipe.bundling.bundle import bundle
    from edgepipe.cli.progress import Progress

    said = {name: value for name, value in flags.items() if value not in (None, "", (), False)}
    if said.get("antialias") is None and flags["antialias"] is False:
        said["antialias"] = False
    read_data_flags(said)
    with tempfile.TemporaryDirectory(prefix="edgepipe-bundle-") as folder:
        path = Path(folder) / "model.edgebundle"
        with Progress(quiet=quiet, verbose=False) as progress:
            bundle(out, path=path, listener=progress, **said)
        yield path


@contextmanager
def telling(quiet: bool) -> Iterator[Told]:
    """A line on standard error for each thing of note that happens on a board."""
    shown: dict[tuple[str, str], int] = {}

    def tell(name: str, event: str, facts: Mapping[str, Any]) -> None:
        words = _words(event, facts)
        if event == "samples":
            done, of = facts["done"], facts["of"]
            quarter = 4 * done // of
            words = f"{facts['model']}: {done} of {of} samples"
            if shown.get((name, facts["model"])) == quarter:
                return
            shown[(name, facts["model"])] = quarter
        if words and not quiet:
            click.echo(f"{name}: {words}", err=True)

    yield tell


def _words(event: str, facts: Mapping[str, Any]) -> str:
    if event == "note":
        return str(facts["words"])
    return {"connecting": "connecting", "failed": f"failed: {facts.get('error', '')}",
            "finished": f"{facts.get('verdict', '')}"}.get(event, "")  # fmt: skip


def _swept(
    devices: Sequence[Device], bundle: Path, asked: Asked, over: dict[str, tuple[str, ...]],
    target: Path, told: Told,
) -> list[Result]:  # fmt: skip
    from edgepipe.devices import sweeping
    from edgepipe.devices.running import Plan, run_plans

    plans = [
        [
            Plan(device, each, target / device.name / f"{Path(each.delegate).name}-{each.threads}")
            for each in sweeping.variants(device, asked, over)
        ]
        for device in devices
    ]
    return run_plans(plans, bundle, told)


def show(entries: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from edgepipe.report import devices

    table = Table(box=None, pad_edge=False)
    head, rows = devices.table(entries)
    for name in head:
        table.add_column(name, no_wrap=True, justify="right" if name in devices.NUMBERS else "left")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width of its own; the narrow one that is taken for it would cut figures off.
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=160)).print(table)
    for note in devices.notes(entries):
        click.echo(note)


def worst_of(found: Sequence[Result]) -> int:
    """What could not be run goes before what was worse than its limits."""
    order = [1, 4, 3, 2, 5]
    codes = {result.exit_code for result in found}
    return next((code for code in order if code in codes), max(codes, default=0))
