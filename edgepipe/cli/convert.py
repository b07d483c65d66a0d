"""`edgepipe convert`: the whole path of a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgepipe.cli.compiler_options import chip_options, gate_options
from edgepipe.cli.data_options import data_options, read_data_flags
from edgepipe.cli.progress import Progress
from edgepipe.cli.result_files import ResultFiles, result_file_options
from edgepipe.cli.validation_options import settle, validation_options
from edgepipe.errors import OptionError

Command = Callable[..., Any]


def model_options(command: Command) -> Command:
    """What names a model and how it loads; `convert`, `plan` and `inspect` share it."""
    named = click.option(
        "--model", "factory", metavar="MODULE:FACTORY", default="",
        help="A PyTorch model as code: package.module:factory.",
    )  # fmt: skip
    model = click.argument("model", required=False, default="")
    shared: Command = model(named(loading_options(command)))
    return shared


def loading_options(command: Command) -> Command:
    """How the model that was named loads."""
    for option in reversed(
        (
            click.option(
                "--weights", type=click.Path(path_type=Path),
                help="State dict (.pt, .pth) or .safetensors for --model.",
            ),
            click.option(
                "--model-arg", "model_args", multiple=True, metavar="NAME=VALUE",
                help="Argument of the factory; a Python literal or text. Again for more.",
            ),
            click.option(
                "--python-path", multiple=True, metavar="DIR",
                help="Where your code is (default: the current folder). Again for more.",
            ),
            click.option(
                "--submodule", default="", metavar="NAME",
                help="Convert only this part of a TorchScript file.",
            ),
            click.option(
                "--custom-objects", default="", metavar="PACKAGE.MODULE",
                help="Module with a Keras model's own layers; runs code, so needs --trust.",
            ),
            click.option(
                "--trust", is_flag=True,
                help="Let the model run code: pickles, Lambda layers, custom objects.",
            ),
            click.option(
                "--input", "inputs", multiple=True, metavar="NAME=1x3x224x224:float32",
                help="Shape and type of an input. Again for more.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def run_options(command: Command) -> Command:
    for option in reversed(
        (
            click.option(
                "--samples", metavar="DATA",
                help="Samples for the proofs, 16 at most; see `edgepipe data`. Default: noise.",
            ),
            click.option(
                "--calibration", metavar="DATA",
                help="Samples that say which values occur, for int8; `random` if there are none.",
            ),
            click.option("--seed", type=int, help="Seed of noise and of choices. Default: 0."),
            click.option(
                "--min-sqnr", type=float, metavar="DB",
                help="What an arrow may lose, as signal to noise. Default: 50 dB.",
            ),
            click.option(
                "--max-error", type=float, metavar="SHARE",
                help="Largest error of an output, as a share of its range. Default: 0.02.",
            ),
            click.option(
                "--min-agreement", type=float, metavar="SHARE",
                help="How often the largest element, or an integer, is the same. Default: 1.",
            ),
            click.option(
                "--held-out", type=float, metavar="SHARE",
                help="Of the calibration data, kept for the int8 proof. Default: 0.2.",
            ),
            click.option(
                "--io", metavar="TYPE",
                help="Type of a quantized model's ends: int8, uint8, int16, float32.",
            ),
            click.option(
                "--repair", metavar="WHEN",
                help="auto (the default): where int8 loses more than the limit; off; always.",
            ),
            click.option(
                "--repair-budget", type=click.FloatRange(min=0), metavar="SECONDS",
                help="Longest time for a repair. Default: 240.",
            ),
            click.option(
                "--calibration-method", metavar="NAME",
                help="min-max, moving-average, percentile, mse or entropy.",
            ),
            click.option(
                "--allow-float", is_flag=True,
                help="Accept operators that stay in float in an int8 model.",
            ),
            click.option(
                "--recipe", type=click.Path(path_type=Path), metavar="FILE",
                help="Apply the recipe.toml of an earlier result.",
            ),
            click.option("--route", default="", metavar="NAME", help="Only this route; see plan."),
            click.option("--explore", is_flag=True, help="Try all routes and keep the best."),
            click.option(
                "--keep-layout", is_flag=True,
                help="Keep channels-first inputs as they are.",
            ),
            click.option(
                "-O", "--option", "options", multiple=True, metavar="STAGE.FIELD=VALUE",
                help="An option of one stage; see plan. Again for more.",
            ),
            click.option(
                "--stage-timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
                help="Longest time for one step. Default: 3600.",
            ),
            click.option(
                "--stage-memory", type=click.FloatRange(min=0, min_open=True), metavar="GIB",
                help="Most memory for one step. Default: nine tenths of the machine's.",
            ),
            click.option(
                "--retry", is_flag=True, help="Try again what failed in an earlier run."
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


precision_option = click.option(
    "--precision", metavar="NAME",
    help="float32, int8, int16x8, dynamic, float16, int8-weights, int4-weights. Default: first.",
)  # fmt: skip
target_option = click.option(
    "--target", metavar="NAME",
    help="tflite (the default), onnx, openvino, edgetpu or an Ethos-U, as ethos-u55-256.",
)  # fmt: skip


targets_option = click.option(
    "--target", "targets", multiple=True, metavar="NAME",
    help="tflite (the default), onnx, openvino, edgetpu or an Ethos-U, as ethos-u55-256."
    " Again for more: each gets a folder below -o, and the exit code is the worst by"
    " 1, 2, 4, 5, 3.",
)  # fmt: skip


@click.command()
@model_options
@targets_option
@precision_option
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Where the results go. Default: NAME_TARGET here.",
)  # fmt: skip
@run_options
@data_options
@chip_options
@gate_options
@click.option(
    "--validate", metavar="DATA",
    help="Run the result beside the model on these samples; the report tells what was lost.",
)  # fmt: skip
@validation_options
@result_file_options
@click.option("--dry-run", is_flag=True, help="Show the routes and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the tools print.")
@click.option("--color/--no-color", default=None, help="Colours. Default: on a terminal.")
@click.pass_context
def convert(context: click.Context, /, **flags: Any) -> None:
    """Convert MODEL for a target, and prove every step by running both of its sides.

    MODEL is a Keras .keras or .h5, a SavedModel folder, a PyTorch .pt2 or TorchScript file, an
    ONNX or TFLite file; or, with --model, PyTorch code and its weights.
    """
    from edgepipe.validation import after_conversion

    dry_run, as_json = flags.pop("dry_run"), flags.pop("as_json")
    quiet, verbose = flags.pop("quiet"), flags.pop("verbose")
    set_colours(context, flags.pop("color"))
    targets = flags.pop("targets")
    if len(targets) == 1:
        flags["target"] = targets[0]
    settle(flags, bool(flags["validate"]))
    name = flags["factory"] or Path(flags["model"]).stem
    files = ResultFiles(flags, name, flags["allow_undecided"])
    model, arguments = read_flags(flags)
    if dry_run:
        _plan(model, after_conversion.parted(arguments)[0], targets, as_json)
        return
    with files:
        if len(targets) > 1:
            _convert_targets(model, arguments, targets, files, as_json, quiet, verbose)
            return
        with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
            result, validated = after_conversion.converted(model, arguments, progress)
        files.tell_report(result.report, result.folder)
        if as_json:
            click.echo(json.dumps(result.report, indent=2))
        elif not quiet:
            _show(result)
        if validated is not None:
            validated.check()


def _plan(model: str, arguments: dict[str, Any], targets: tuple[str, ...], as_json: bool) -> None:
    from edgepipe.cli.plan import show_plan

    if len(targets) < 2:
        show_plan(model, arguments, as_json)
        return
    if as_json:
        raise OptionError("--dry-run --json takes one --target, received several")
    for name in targets:
        click.secho(f"target {name}", bold=True)
        show_plan(model, {**arguments, "target": name}, as_json)


def _convert_targets(
    model: str,
    arguments: dict[str, Any],
    targets: tuple[str, ...],
    files: ResultFiles,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    from edgepipe import several_targets
    from edgepipe.cli import target_table

    with Progress(quiet=quiet or as_json, verbose=verbose) as progress:
        found = several_targets.convert_targets(model, targets, listener=progress, **arguments)
    files.tell(*found.outcomes(files.name))
    if as_json and not found.errors:
        click.echo(json.dumps(found.report, indent=2))
    elif not quiet and not as_json:
        target_table.show(found.rows)
        click.echo(f"  {found.report_path}")
        click.echo(f"  {found.report_path.with_suffix('.html')}")
    found.check()


def set_colours(context: click.Context, wanted: bool | None) -> None:
    """click drops colours by itself when piped; NO_COLOR is everybody's convention."""
    import os

    if wanted is None and os.environ.get("NO_COLOR"):
        wanted = False
    context.color = wanted


def read_flags(flags: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model and the keywords of `edgepipe.convert`."""
    # By identity: 0 is a number that was said.
    said = {name: value for name, value in flags.items() if value is not False}
    arguments = {name: value for name, value in said.items() if value not in (None, (), "", {})}
    # Flags whose absence is something else than False.
    arguments |= {name: False for name in ("antialias", "latency") if flags.get(name) is False}
    read_data_flags(arguments)
    model, factory = arguments.pop("model", ""), arguments.pop("factory", "")
    if model and factory:
        raise OptionError(
            f"two models were named: {model!r} and --model {factory!r}",
            hint="a file and a factory exclude each other; weights go to --weights.",
        )
    if "model_args" in arguments:
        arguments["model_args"] = dict(map(_read_argument, arguments["model_args"]))
    if "options" in arguments:
        arguments["options"] = read_options(arguments["options"])
    return str(factory or model), arguments


def _read_argument(text: str) -> tuple[str, Any]:
    import ast

    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise OptionError(f"--model-arg takes NAME=VALUE, received {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def read_options(texts: tuple[str, ...]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        stage, dot, field = path.rpartition(".")
        if not equals or not dot:
            raise OptionError(
                f"--option takes STAGE.FIELD=VALUE, received {text!r}",
                hint="edgepipe plan MODEL --options lists them.",
            )
        found.setdefault(stage, {})[field] = value
    return found


def _show(result: Any) -> None:
    from edgepipe import process_memory
    from edgepipe.inputs import shape_words
    from edgepipe.report import compiled, ethosu, quantized, validation

    report = result.report
    proof = ": it loads, runs and repeats" if result.report["chosen"] == "as-is" else ""
    if result.sqnr_db is not None:
        proof = f", proven at {result.sqnr_db:.0f} dB"
    click.echo(f"done in {report['seconds']:.1f} s by route {result.route}{proof}")
    for item in report["outputs"]:
        click.echo(f"  {result.folder / item['path']}  {process_memory.words(item['size'])}")
    for name in report.get("emitted", ()):
        click.echo(f"  {result.folder / name}")
    last = report["outputs"][-1]["signature"]
    for note in _repairs(report):
        click.echo(f"  {note}")
    for kind in ("inputs", "outputs"):
        for port in last[kind]:
            shape = shape_words(port["shape"])
            moved = (
                f", axes {tuple(port['permutation'])} of the model's"
                if port.get("permutation")
                else ""
            )
            click.echo(f"  {kind[:-1]} {port['name']}: {shape} {port['dtype']}{moved}")
    compiling = [*compiled.summary(report), *ethosu.summary(report)]
    seen = validation.summary(report["validation"]) if "validation" in report else []
    for line in [*quantized.summary(report), *compiling, *seen]:
        click.echo(f"  {line}")
    click.echo(f"  {result.report_path}")
    click.echo(f"  {result.report_path.with_suffix('.html')}")


def _repairs(report: dict[str, Any]) -> list[str]:
    """What a repair changed, for it decides what the file runs on."""
    chosen = next(item for item in report["routes"] if item["status"] == "chosen")
    notes = [note for step in chosen["steps"] for note in step["notes"]]
    return [note for note in notes if note.startswith("repair, ") and ", kept" in note]
