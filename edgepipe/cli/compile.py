"""`edgepipe compile`: int8 TFLite files compiled for a chip, alone or to share it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgepipe.cli.compiler_options import compile_options, gate_options


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...",
                type=click.Path(path_type=Path))  # fmt: skip
@click.option("--target", type=click.Choice(["edgetpu"]), default="edgetpu", show_default=True,
              help="The chip.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER",
              help="Where the results go.")  # fmt: skip
@compile_options
@gate_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def compile(models: tuple[Path, ...], target: str, as_json: bool, **flags: Any) -> None:
    """Compile MODEL, an int8 TFLite file, with edgetpu_compiler, and check what it made.

    Several MODELs are compiled together: they share the chip's memory for parameters. For models
    that aren't int8 yet there is `edgepipe convert --target edgetpu`.
    """
    from edgepipe.targets.edgetpu import compile_run

    del target
    said = {name: value for name, value in flags.items() if value is not None and value != ""}
    result = compile_run.compile(models, **said)
    if as_json:
        click.echo(json.dumps(result.report, indent=2))
    else:
        _show(result)


def _show(result: Any) -> None:
    from edgepipe.cli.folding import fold
    from edgepipe.process_memory import words
    from edgepipe.report import compiled

    report = result.report
    for path, model in zip(result.files, report["models"], strict=True):
        click.echo(f"{path}  {words(path.stat().st_size)}")
        for line in compiled.compiled_words(report["compiler"], model):
            click.echo(fold(f"  {line}"))
        for one in model["disagreements"]:
            which = f"op {one['index']} " if one["index"] >= 0 else ""
            click.echo(fold(f"    {which}{one['op']}: foretold {one['foretold']!r}, the compiler:"
                            f" {one['compiler']!r} {one['why']}".rstrip()))  # fmt: skip
    for note in report["notes"]:
        click.echo(fold(f"note: {note}"))
    for proof in report["proofs"][:1] if all(p.get("not_run") for p in report["proofs"]) else []:
        click.echo(fold(proof["not_run"]))
    for path, proof in zip(result.files, report["proofs"], strict=False):
        if not proof.get("not_run"):
            verdict = "proven" if proof["proven"] else "NOT the same"
            click.echo(
                f"{path.name} on {proof['device']}: {verdict}, {proof['sqnr_db']:.0f} dB from the"
                " int8 model on the CPU"
            )
    click.echo(str(result.report_path))
