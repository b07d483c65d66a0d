"""`edgepipe preflight`: what a chip's compiler, or OpenVINO's device, will map of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepipe.errors import ModelNotFound, OptionError

if TYPE_CHECKING:
    from edgepipe.targets.edgetpu.preflight import Preflight, Verdict


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", default="edgetpu", show_default=True, metavar="NAME",
              help="The chip: edgetpu, openvino, or an Ethos-U as ethos-u55-256.")  # fmt: skip
@click.option("--device", default="", metavar="NAME",
              help="OpenVINO: CPU (the default), GPU, NPU, AUTO, HETERO:GPU,CPU.")  # fmt: skip
@click.option("-O", "--option", "options", multiple=True, metavar="STAGE.FIELD=VALUE",
              help="Ethos-U: an option of Vela's stage. Again for more.")  # fmt: skip
@click.option("-a", "--multiple-subgraphs", "multiple", is_flag=True,
              help="As with the compiler's -a: go on behind an op that isn't mapped.")  # fmt: skip
@click.option("--require-full-mapping", is_flag=True,
              help="Exit with 5 where an op would run on the CPU.")  # fmt: skip
@click.option("--fix", is_flag=True,
              help="Rewrite what edgepipe can, prove it in LiteRT, and write -o FILE.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE",
              help="Where --fix writes.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every op.")
def preflight(
    model: Path,
    target: str,
    device: str,
    options: tuple[str, ...],
    multiple: bool,
    require_full_mapping: bool,
    fix: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Foretell which ops of MODEL, an int8 TFLite file, are mapped to a chip.

    For the Edge TPU without its compiler; for an Ethos-U Vela itself is asked. For openvino, MODEL
    is its .xml or folder, ONNX or float TFLite, and OpenVINO is asked on a device of this machine.

    Each op that isn't has the compiler's own words, the rule, where the rule is from and how sure
    it is, and what would help. With --fix, what can be rewritten is, and the table is that of the
    file that was written.
    """
    from edgepipe import chip_preflight
    from edgepipe.cli import preflight_ethosu, preflight_openvino
    from edgepipe.cli.convert import read_options
    from edgepipe.targets.ethosu.preflight import Preflight as EthosuPreflight
    from edgepipe.targets.openvino.preflight import Preflight as OpenvinoPreflight

    if not (model.is_file() or (target == chip_preflight.OPENVINO and model.exists())):
        raise ModelNotFound(f"no file {str(model)!r}", hint="give an int8 .tflite file.")
    if fix != (out is not None):
        raise OptionError("--fix and -o FILE go together", hint="--fix -o model_legal.tflite")
    facts: dict[str, Any] = {"model": str(model), "target": target}
    found: Preflight | EthosuPreflight | OpenvinoPreflight
    if fix and out is not None:
        if target != "edgetpu":
            raise OptionError(
                f"--fix does not exist for target {target}", hint="it rewrites for the edgetpu."
            )
        found = _fix(model, out, multiple, facts, as_json)
        model = out
    else:
        said = read_options(options)
        found = chip_preflight.preflight(
            model, multiple, target=target, options=said, device=device
        )
    if as_json:
        click.echo(json.dumps({**facts, **found.to_json()}, indent=2))
    elif isinstance(found, EthosuPreflight):
        preflight_ethosu.show(model, found)
    elif isinstance(found, OpenvinoPreflight):
        preflight_openvino.show(model, found)
    else:
        _show(model, found)
    if require_full_mapping:
        found.check(str(model))


def _fix(model: Path, out: Path, multiple: bool, facts: dict[str, Any], as_json: bool) -> Preflight:
    from edgepipe.cli.folding import fold
    from edgepipe.cli.progress import Progress
    from edgepipe.targets.edgetpu import fixing
    from edgepipe.targets.edgetpu import preflight as foretelling

    with Progress(quiet=as_json) as progress:
        fixed = fixing.legalise(model, out, listener=progress)
    facts |= {"out": str(out), "rewrites": list(fixed.notes)}
    facts["before"] = {"mapped": fixed.before.mapped, "ops": len(fixed.before.verdicts)}
    if not as_json:
        before = fixed.before
        click.echo(f"{model}: {before.mapped} of {len(before.verdicts)} ops foretold as mapped")
        for note in fixed.notes or ("nothing to rewrite",):
            click.echo(fold(f"  {note}"))
    return foretelling.preflight(out, multiple)


def _show(model: Path, found: Preflight) -> None:
    from edgepipe.cli.folding import fold

    total = len(found.verdicts)
    click.echo(f"{model}: {found.mapped} of {total} ops foretold as mapped to the Edge TPU")
    for reason in found.refused:
        click.echo(fold(f"  the compiler refuses the model: {reason}"))
    for warning in found.warnings:
        click.echo(fold(f"  note: {warning}"))
    for line in found.memory.words():
        click.echo(fold(f"  {line}"))
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
