"""What `edgepipe inspect` adds for a file that is compiled for the Edge TPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepipe.cli.compiler_options import gate_options
from edgepipe.errors import OptionError
from edgepipe.process_memory import words

if TYPE_CHECKING:
    from edgepipe.cli.convert import Command
    from edgepipe.targets.edgetpu.compiled import Compiled
    from edgepipe.targets.edgetpu.package import Executable, Layer

FLAGS = ("source", "max_streamed_bytes", "require_full_mapping", "runtime_version")


def edgetpu_options(command: Command) -> Command:
    """The source model and the gates."""
    source = click.option(
        "--source", type=click.Path(path_type=Path),
        help="Edge TPU: the model that the file was compiled of; shows what was mapped.",
    )  # fmt: skip
    return source(gate_options(command))


def decode(model: str, ops: dict[str, int], flags: dict[str, Any]) -> Compiled | None:
    """What the flags and the file give; None for a file that isn't compiled."""
    from edgepipe.targets.edgetpu import compiled

    if compiled.LABEL in ops:
        return compiled.read(model, flags["source"] or "")
    asked = [f"--{name.replace('_', '-')}" for name in FLAGS if flags[name] not in (None, False)]
    if asked:
        raise OptionError(
            f"{', '.join(asked)}: only for files that edgetpu_compiler wrote, and {model} "
            "isn't one",
            hint="`edgepipe preflight` foretells what the compiler will do.",
        )
    return None


def check(model: str, found: Compiled, flags: dict[str, Any]) -> None:
    found.check(
        flags["max_streamed_bytes"], flags["require_full_mapping"], flags["runtime_version"], model
    )


def show(found: Compiled) -> None:
    from edgepipe.targets.edgetpu.compiled import CYCLES_ARE_NO_LATENCY

    for one in found.packages:
        chips = f", {one.chips} chips" if one.chips > 1 else ""
        click.echo(f"Edge TPU package: needs runtime version {one.runtime_version}{chips}")
        if one.compiler_version:
            click.echo(f"  compiler: {one.compiler_version}")
        click.echo(f"  parameters: {words(one.cached_bytes)} cached on the chip, "
                   f"{words(one.streamed_bytes)} streamed at every inference")  # fmt: skip
        for token in one.tokens:
            click.echo(f"  caching token: {token:016x} (models compiled together share it)")
        for executable in one.executables:
            _show_executable(executable)
    if any(e.estimated_cycles for one in found.packages for e in one.executables):
        click.echo(f"  note: {CYCLES_ARE_NO_LATENCY}")
    if found.source:
        total = len(found.source)
        click.echo(f"mapped: {sum(found.mapped.values())} of {total} ops of the source")
        click.echo(f"  on the chip: {_counts(found.mapped)}")
    click.echo(f"  on the CPU: {_counts(found.unmapped)}")


def _counts(ops: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in ops.items()) or "none"


def _show_executable(executable: Executable) -> None:
    cycles = executable.estimated_cycles
    facts = [
        f"{words(executable.parameter_bytes)} parameters",
        f"{words(executable.instruction_bytes)} instructions",
        f"{words(executable.activation_bytes_per_tile)} activations a tile",
        f"{words(executable.scratch_bytes)} scratch" if executable.scratch_bytes else "",
        f"{cycles:,} cycles by the compiler's estimate" if cycles else "",
    ]
    click.echo(f"  {executable.kind.words}: {', '.join(fact for fact in facts if fact)}")
    for word, layers in (("in ", executable.inputs), ("out", executable.outputs)):
        for layer in layers:
            click.echo(f"    {word} {_layer_words(layer)}")


def _layer_words(layer: Layer) -> str:
    sizes = "x".join(map(str, layer.sizes))
    often = f", {layer.executions} times" if layer.executions != 1 else ""
    return (
        f"{layer.name} {sizes} (y, x, z) {layer.dtype}, scale {layer.scale:g}, "
        f"zero point {layer.zero_point}, {words(layer.bytes)} with padding{often}"
    )
