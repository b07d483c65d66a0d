"""What `edgepipe inspect` adds for a file that Vela compiled for an Ethos-U."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepipe.errors import LimitError, OptionError, UnsupportedModel
from edgepipe.process_memory import words

if TYPE_CHECKING:
    from edgepipe.targets.ethosu.compiled import Compiled

FOREIGN = ("max_streamed_bytes", "runtime_version")
SHOWN = 8


def decode(model: str, flags: dict[str, Any]) -> tuple[Compiled, dict[str, int]]:
    """What the file holds, and with --source which operators the NPU runs."""
    from edgepipe.targets.ethosu import compiled

    asked = [f"--{name.replace('_', '-')}" for name in FOREIGN if flags[name] is not None]
    if asked:
        raise OptionError(
            f"{', '.join(asked)}: only for files that edgetpu_compiler wrote, and {model} is Vela's"
        )
    found = compiled.read(model)
    return found, _mapped(found, flags["source"]) if flags["source"] else {}


def _mapped(found: Compiled, source: Path) -> dict[str, int]:
    from edgepipe.targets.ethosu import compiled
    from edgepipe.tflite import reader

    given = Counter(compiled.on_cpu(reader.read(source.expanduser())))
    left = Counter(found.cpu)
    strange = left - given
    if strange:
        raise UnsupportedModel(
            f"the compiled file has {next(iter(strange))} that the source lacks:"
            " it was made of another model",
            hint="give the very file that was compiled with --source.",
        )
    return dict(Counter(op for op, _ in (given - left).elements()))


def show(found: Compiled, mapped: dict[str, int]) -> None:
    many = len(found.npu)
    click.echo(f"compiled by Vela for {', '.join(found.accelerators)}: {many} call(s) of the NPU")
    click.echo(f"  command stream: {words(found.stream_bytes)}")
    click.echo(f"  weights and tables: {words(found.constant_bytes)}")
    fast = found.fast_scratch_bytes
    click.echo(
        f"  arena: {words(found.scratch_bytes)}"
        + (f", and {words(fast)} of fast memory" if fast else "")
    )
    for one in found.npu[:SHOWN]:
        click.echo(
            f"    {', '.join(one.inputs)} → {', '.join(one.outputs)}:"
            f" {words(one.stream_bytes)} of commands"
        )
    if many > SHOWN:
        click.echo(f"    and {many - SHOWN} more")
    if mapped:
        click.echo(f"  on the NPU: {_counts(mapped)}")
    click.echo(f"  on the CPU: {_counts(found.cpu_ops)}")


def _counts(ops: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in ops.items()) or "none"


def check(model: str, found: Compiled, flags: dict[str, Any]) -> None:
    if flags["require_full_mapping"] and found.cpu:
        raise LimitError(
            f"{model}: not all is on the NPU: {_counts(found.cpu_ops)} on the CPU",
            hint="`edgepipe preflight --target ethos-u55-256` on its source says why.",
        )
