"""`edgepipe preflight`: what a chip's compiler will map of a quantized model, and why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepipe.errors import ModelNotFound

if TYPE_CHECKING:
    from edgepipe.targets.edgetpu.preflight import Preflight, Verdict


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", default="edgetpu", show_default=True, metavar="NAME",
              help="The chip: edgetpu, or an Ethos-U as ethos-u55-256.")  # fmt: skip
@click.option("-O", "--option", "options", multiple=True, metavar="STAGE.FIELD=VALUE",
              help="Ethos-U: an option of Vela's stage. Again for more.")  # fmt: skip
@click.option("-a", "--multiple-subgraphs", "multiple", is_flag=True,
              help="As with the compiler's -a: go on behind an op that isn't mapped.")  # fmt: skip
@click.option("--require-full-mapping", is_flag=True,
              help="Exit with 5 where an op would run on the CPU.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every op.")
def preflight(
    model: Path,
    target: str,
    options: tuple[str, ...],
    multiple: bool,
    require_full_mapping: bool,
    as_json: bool,
) -> None:
    """Foretell which ops of MODEL, an int8 TFLite file, are mapped to a chip.

    For the Edge TPU without its compiler; for an Ethos-U Vela itself is asked.

    Each op that isn't has the compiler's own words, the rule, where the rule is from and how sure
    it is, and what would help.
    """
    from edgepipe import chip_preflight
    from edgepipe.cli import preflight_ethosu
    from edgepipe.cli.convert import read_options
    from edgepipe.targets.ethosu.preflight import Preflight as EthosuPreflight

    if not model.is_file():
        raise ModelNotFound(f"no file {str(model)!r}", hint="give an int8 .tflite file.")
    said = read_options(options)
    found = chip_preflight.preflight(model, multiple, target=target, options=said)
    if as_json:
        click.echo(json.dumps({"model": str(model), "target": target, **found.to_json()}, indent=2))
    elif isinstance(found, EthosuPreflight):
        preflight_ethosu.show(model, found)
    else:
        _show(model, found)
    if require_full_mapping:
        found.check(str(model))


def _show(model: Path, found: Preflight) -> None:
    from edgepipe.cli.folding import fold

    total = len(found.verdicts)
    click.echo(f"{model}: {found.mapped} of {total} ops foretold as mapped to the Edge TPU")
    for reason in found.refused:
        click.echo(fold(f"  the compiler refuses the model: {reason}"))
    for warning in found.warnings:
        click.echo(fold(f"  note: {warning}"))
    click.echo(f"\n{'Operator':<30} {'Count':<10} Status\n")
    for (op, status), count in found.table().items():
        click.echo(f"{op:<30} {count:<10} {status}")
    shown: set[tuple[str, str]] = set()
    for one in found.verdicts:
        if not one.mapped and (one.op, one.status + one.rule) not in shown:
            shown.add((one.op, one.status + one.rule))
            _explain(one)


def _explain(one: Verdict) -> None:
    from edgepipe.cli.folding import fold

    click.echo(f"\nop {one.index} {one.op} {one.output}")
    click.echo(f"  {one.status}")
    click.echo(fold(f"  rule: {one.rule} ({one.confidence}: {one.source})"))
    click.echo(fold(f"  → {one.fix}"))
