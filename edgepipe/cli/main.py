"""The command `edgepipe`: finds the subcommand, and turns errors into words and exit codes."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from edgepipe import __version__
from edgepipe.errors import EdgepipeError, InternalError, UsageError

COMMANDS = {
    "convert": "Convert a model for a target and prove that it still works.",
    "advise": "Say which targets suit a model, and what keeps the others from fitting.",
    "rerun": "Do a run again from its report and say what differs.",
    "verify": "Check every file of a result against its manifest.json.",
    "schema": "Print the JSON schema of edgepipe.toml, for editors.",
    "check": "Convert and judge all models of an edgepipe.toml, for CI.",
    "plan": "Show the routes that convert would try, without running them.",
    "inspect": "Show a model's inputs, outputs, ops, parameters and size.",
    "compile": "Compile int8 TFLite files for an edge chip, with its own compiler.",
    "preflight": "Foretell which ops of a model an edge chip, or OpenVINO's device, runs.",
    "estimate": "Estimate a quantized model's latency on an edge chip, with its error band.",
    "calibrate-host": "Make a host's profile for estimate from latencies that were measured.",
    "bundle": "Pack a model with samples and references into one file for a board.",
    "data": "Show what of some data a model would be fed.",
    "validate": "Run a deployed model beside the float one on data, and apply limits.",
    "diagnose": "Say which layers of the int8 model cost the accuracy, and why.",
    "openvino": "List OpenVINO's devices here, and time a model on one, layer by layer.",
    "report": "Make the HTML page of a report again.",
    "bench": "Measure how fast a model runs here, alone or beside its float one.",
    "device": "Boards: add, list, doctor, remove, and run a model on them.",
    "compare": "Run the same models on boards, and say where they begin to differ.",
    "toolchain": "List, install, check and remove the frameworks' environments.",
    "store": "Show, shrink and check what earlier runs kept.",
    "completion": "Print the shell completion for bash, zsh or fish.",
}
BUG_EXIT, INTERRUPT_EXIT = 1, 130


class LazyGroup(click.Group):
    """Knows its commands by name and one line; a command's own file is read when it is used."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        python_name = name.replace("-", "_")
        module = importlib.import_module(f"edgepipe.cli.{python_name}")
        command: click.Command = getattr(module, python_name)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from edgepipe.errors import UnknownName

            raise UnknownName.of("command", args[0], COMMANDS)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 our bug, 2 usage, 3 something is missing here,"
    " 4 every route failed, 5 worse than the limits.",
)
@click.version_option(__version__, "-V", "--version", prog_name="edgepipe")
def edgepipe() -> None:
    """Bring a model to an edge chip, and prove at every step that it still works."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, _interrupt)
        # Not standalone, click returns the code of `context.exit` instead of raising it.
        ended = edgepipe.main(words, prog_name="edgepipe", standalone_mode=False)
    except click.exceptions.Exit as early:
        return early.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPT_EXIT
    except click.ClickException as error:
        _say(_in_our_words(error), words)
        return error.exit_code
    except EdgepipeError as error:
        _say(error, words)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        import traceback

        traceback.print_exc()
        click.echo(f"\nThis is a bug of edgepipe {__version__}: {error}", err=True)
        return BUG_EXIT
    return ended if isinstance(ended, int) else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _in_our_words(error: click.ClickException) -> EdgepipeError:
    """What click says of a command line, in the form of all other errors."""
    context = getattr(error, "ctx", None)
    hint = f"see `{context.command_path} --help`." if context is not None else ""
    return UsageError(error.format_message(), hint=hint)


def _say(error: EdgepipeError, words: Sequence[str]) -> None:
    """One clear error: what, what to do, the tool's last words. The traceback only with -v."""
    arguments = set(words)
    if "--json" in arguments:
        details = {k: v for k, v in error.details.items() if k not in ("traceback", "trials")}
        document = {**error.to_json(), "details": details, "exit_code": error.exit_code}
        click.echo(json.dumps(document, indent=2, default=str))
    from edgepipe.cli.folding import fold

    click.secho("error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(fold(f"error: {error.message}")[len("error: ") :], err=True)
    for line in error.details.get("tail", []):
        click.echo(f"  | {line}", err=True)
    if error.hint:
        click.echo(fold(f"  → {error.hint}"), err=True)
    told = ("report",) if isinstance(error, UsageError) else ("log", "report")
    for name in told:  # Of what was asked wrongly no log says more.
        if error.details.get(name) and error.details[name] not in error.message + error.hint:
            click.echo(f"  {name}: {error.details[name]}", err=True)
    verbose = bool({"-v", "--verbose"} & arguments)
    if verbose and error.details.get("traceback"):
        click.echo(error.details["traceback"], err=True)
    elif verbose or isinstance(error, InternalError):
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True)
