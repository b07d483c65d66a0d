"""`edgepipe check`: are all models of this repository still good enough."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from edgepipe.cli.convert import set_colours
from edgepipe.cli.result_files import ResultFiles, result_file_options
from edgepipe.project import models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepipe.project.checking import Checked
    from edgepipe.project.models import Project
    from edgepipe.report.outcome import Outcome

MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "undecided": ("?", "yellow"),
         "error": ("✗", "red")}  # fmt: skip


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=0), default=0, metavar="N",
    help="Models at a time. Default: one for each two cores.",
)  # fmt: skip
@click.option(
    "--accept", is_flag=True,
    help="Write what passes to baseline.json, which later runs are judged by.",
)  # fmt: skip
@click.option(
    "--across-models", is_flag=True,
    help="Judge by what was accepted of another model of the same name.",
)  # fmt: skip
@click.option(
    "--allow-undecided", is_flag=True, help="Let a gate pass that too few samples decide."
)
@click.option("--trust", is_flag=True, help="Let the models run code; see convert.")
@click.option("--retry", is_flag=True, help="Try again what failed in an earlier run.")
@result_file_options
@click.option("--dry-run", is_flag=True, help="Read edgepipe.toml, say what would be run, stop.")
@click.option(
    "--toolchains", is_flag=True, help="Print the toolchains that the models need, and stop."
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but what is wrong.")
@click.option("--color/--no-color", default=None, help="Colours. Default: on a terminal.")
@click.pass_context
def check(context: click.Context, /, **flags: Any) -> None:
    """Convert the models of the nearest edgepipe.toml and judge them by their gates.

    Without NAMEs all of them. What an earlier run made is kept, so only what changed is done
    again. Exits with 5 if a gate is broken, with a line for each; with what convert ends with
    where a model doesn't get that far, the worst by 1, 2, 4, 5, 3.
    """
    from edgepipe.project import checking

    as_json, quiet = flags.pop("as_json"), flags.pop("quiet")
    set_colours(context, flags.pop("color"))
    dry_run, only_toolchains = flags.pop("dry_run"), flags.pop("toolchains")
    if dry_run or only_toolchains:
        _plan(models.find(), flags["names"], only_toolchains)
        return
    with ResultFiles(flags, "edgepipe.toml", flags["allow_undecided"]) as files:
        asked = checking.Asked(**flags)
        found = checking.run(models.find(), asked, _Lines(quiet or as_json).show)
        files.tell(*found.outcomes)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show(found, quiet)
    if found.exit_code:
        context.exit(found.exit_code)


def _plan(project: Project, names: Sequence[str], only_toolchains: bool) -> None:
    from edgepipe.project import checking

    cases = project.take(names)
    if only_toolchains:
        click.echo(" ".join(checking.toolchains(project, cases)))
        return
    for case in cases:
        request = models.request_of(case, project.folder)
        gates = f"{len(case.gates)} {'gate' if len(case.gates) == 1 else 'gates'}"
        click.echo(
            f"{case.name}  {case.target} {request.precision}, {gates}, into {case.arguments['out']}"
        )


class _Lines:
    """What the models' processes say, each line with the name of its model."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.lock = threading.Lock()

    def show(self, name: str, line: str) -> None:
        if self.quiet or not line.strip():
            return
        with self.lock:
            click.echo(f"{click.style(name, bold=True)}  {line}", err=True)
            sys.stderr.flush()


def _show(found: Checked, quiet: bool) -> None:
    from edgepipe.report.markdown import summary

    for outcome in found.outcomes:
        if not quiet or outcome.exit_code:
            _show_one(outcome)
    if not quiet:
        click.echo(f"{summary(found.outcomes)}, {found.seconds:.1f} s")
    if found.accepted is not None:
        click.echo(f"  {found.accepted}")


def _show_one(outcome: Outcome) -> None:
    mark, colour = MARKS[outcome.status]
    click.echo(f"{click.style(mark, fg=colour)} {outcome.name}: {_facts(outcome)}")
    for words in outcome.words():
        click.echo(f"    {words}")
    if outcome.status == "error" and outcome.error and outcome.error.get("hint"):
        click.echo(f"    → {outcome.error['hint']}")
    for note in outcome.notes:
        click.echo(f"    {note}")


def _facts(outcome: Outcome) -> str:
    from edgepipe.process_memory import words

    facts: list[str] = [outcome.status]
    if outcome.gates:
        passed = sum(gate["verdict"] == "passed" for gate in outcome.gates)
        facts.append(f"{passed} of {len(outcome.gates)} gates hold")
    if outcome.model:
        facts.append(words(outcome.model["size"]))
    steps = [step["status"] for route, step in outcome.steps if route == outcome.chosen]
    for status in ("made", "kept"):
        if count := steps.count(status):
            facts.append(f"{count} {'step' if count == 1 else 'steps'} {status}")
    return ", ".join([*facts, f"{outcome.seconds:.1f} s"])
