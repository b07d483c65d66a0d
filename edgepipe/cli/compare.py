"""`edgepipe compare`: the same bundle on several boards, and where they begin to differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepipe.cli.device_run import asked_of, board_options, bundle_of, show, telling, worst_of

if TYPE_CHECKING:
    from edgepipe.devices.comparison import Comparison, Pair
    from edgepipe.devices.layer_differences import Difference, Explained

ROWS = 24


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="DEVICE...")
@click.argument("out", metavar="OUT|BUNDLE")
@board_options
@click.option(
    "--layers", "layer_samples", default=1, type=click.IntRange(0), metavar="N",
    help="Samples on which operators are compared; 0: none. Default: 1.",
)  # fmt: skip
@click.option("--all-layers", is_flag=True, help="Show every operator, not only those that differ.")
@click.option(
    "--max-steps", type=click.IntRange(0), metavar="N",
    help="End with 5 if integer outputs differ by more.",
)  # fmt: skip
@click.pass_context
def compare(context: click.Context, /, **flags: Any) -> None:
    """Run the same models on boards and compare each with the first: outputs, accuracy, latency,
    memory, and which operator differs first. With one DEVICE the first is `host`.

    DEVICE may be NAME:DELEGATE, so that `compare host:xnnpack host:none` compares kernels.
    Operators are compared twice: as the model runs, and each by itself with the first board's
    inputs, so that a difference is its own kernel's and not what came before it.
    """
    from edgepipe.devices import inventory
    from edgepipe.devices.calls import named
    from edgepipe.devices.comparison import compare as compared

    ours = ("out", "as_json", "quiet", "results", "layer_samples", "all_layers", "max_steps")
    given = {key: flags.pop(key) for key in ours}
    names = list(dict.fromkeys(flags.pop("names")))
    names = [inventory.HOST, *names] if len(names) == 1 else names
    if len(set(names)) < 2:
        raise click.UsageError("name a board to compare this machine with.")
    devices = named(names)
    out = Path(given["out"])
    flags["allow_undecided"] = True
    asked = asked_of(flags)
    target = given["results"] or (out / "devices" if out.is_dir() else Path("devices"))
    quiet = given["quiet"] or given["as_json"]
    with bundle_of(out, flags, quiet) as bundle, telling(quiet) as told:
        found = compared(devices, bundle, asked, target, told, given["layer_samples"])
    target.mkdir(parents=True, exist_ok=True)
    document = found.to_json()
    (target / "comparison.json").write_text(json.dumps(document, indent=1) + "\n")
    if given["as_json"]:
        click.echo(json.dumps(document, indent=2))
    elif not given["quiet"]:
        show(document["devices"])
        _show_pairs(found, given["all_layers"])
        click.echo(f"\n{target / 'comparison.json'}")
    context.exit(_code(found, given["max_steps"]))


def _code(found: Comparison, most: int | None) -> int:
    """A board that is worse than a limit was compared all the same."""
    code = worst_of(found.results)
    far = [pair.most_steps for pair in found.pairs if pair.most_steps is not None]
    worse = most is not None and any(steps > most for steps in far)
    return 5 if worse and code in (0, 5) else 0 if code == 5 else code


def _show_pairs(found: Comparison, everything: bool) -> None:
    for pair in found.pairs:
        click.echo(f"\n{pair.model}: {pair.other} beside {pair.base}")
        click.echo(f"  {_outputs(pair)}")
        if pair.layers is not None:
            _show_layers(pair.layers, pair, everything)
        elif pair.why_no_layers:
            click.echo(f"  operators: {pair.why_no_layers}")
    for note in found.notes:
        click.echo(note)


def _outputs(pair: Pair) -> str:
    answers = "" if pair.same_answer is None else f"; the same answer to {pair.same_answer:.1%}"
    if not pair.differing:
        return f"all {pair.elements} output elements are the same{answers}"
    share = pair.differing / pair.elements
    if pair.most_steps is None:
        far = f"{pair.sqnr_db:.0f} dB"
    else:
        steps = [f"{count} by {size}" for size, count in sorted(pair.histogram.items()) if size]
        far = f"at most {pair.most_steps} steps ({', '.join(steps[:6])})"
    return f"{share:.1%} of {pair.elements} output elements differ, {far}{answers}"


def _show_layers(seen: Explained, pair: Pair, everything: bool) -> None:
    first = seen.first
    if first is None:
        differ = any(row.share for row in seen.rows)
        click.echo(f"  operators: {'the inputs differ' if differ else 'all the same'} on the"
                   f" {seen.samples} samples looked at")  # fmt: skip
        return
    click.echo(
        f"  it starts at operator {first.place}, {first.op} ({first.name}): the same inputs,"
        f" {_far(first.share, first.most, first.integers)}"
    )
    kinds, alike = [], []
    for kind in seen.kinds():
        if kind["own"]:
            kinds.append(f"{kind['own']} of {kind['count']} {kind['op']}")
        else:
            alike.append(f"{kind['count']} {kind['op']}")
    if seen.note:
        click.echo(f"  note: {seen.note}")
    if any(row.own_share is not None for row in seen.rows):
        click.echo(f"  given the same inputs, kernels differ in: {', '.join(kinds) or 'none'}")
        click.echo(f"  and agree to the last bit in: {', '.join(alike) or 'none'}")
    _table(seen.rows, everything)


def _far(share: float, most: float, integers: bool) -> str:
    if not share:
        return "same"
    return f"{share:.2%}, {most:.0f} steps" if integers else f"{share:.0%}, {most:.1e}"


def _table(rows: Sequence[Difference], everything: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("#", "operator", "as it runs", "by itself", "", box=None, pad_edge=False)
    shown = [row for row in rows if everything or row.share or row.own_share]
    for row in shown if everything else shown[:ROWS]:
        own = "" if row.own_share is None else _far(row.own_share, row.own_most or 0, row.integers)
        mark = "starts here" if row.starts else ""
        whole = _far(row.share, row.most, row.integers)
        table.add_row(str(row.place), row.op, whole, own, mark)
    Console(highlight=False).print(table)
    if len(shown) > ROWS and not everything:
        click.echo(f"  … {len(shown) - ROWS} more: --all-layers")
