"""Flags of compiling for a chip: where the compiler is, its settings, and the limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]

_COMPILER = click.option(
    "--compiler", metavar="WHERE", default="",
    help="edgetpu_compiler: a path, docker:IMAGE or ssh://user@host[:port]."
    " Default: EDGETPU_COMPILER, then the PATH.",
)  # fmt: skip
_DEVICE = click.option(
    "--device", metavar="NAME", default="",
    help="Prove the result on this Edge TPU: usb, pci, usb:0, pci:1; by default on none. OpenVINO:"
    " CPU (the default), GPU, NPU or AUTO.",
)  # fmt: skip


def chip_options(command: Command) -> Command:
    """For `convert`: its other settings are `-O edgetpu_compile.NAME=VALUE`."""
    no_compile = click.option(
        "--no-compile", is_flag=True,
        help="Stop before a chip's compiler: give the model that it would be given.",
    )  # fmt: skip
    sram = click.option(
        "--max-sram", metavar="SIZE",
        help="Ethos-U: the SRAM that there is, as 512K; exit with 5 where it takes more.",
    )  # fmt: skip
    flash = click.option(
        "--max-flash", metavar="SIZE",
        help="Ethos-U: the flash for the model, as 1.5M; exit with 5 where it takes more.",
    )  # fmt: skip
    emit = click.option(
        "--emit", metavar="c",
        help="Write the TFLite or Vela file as C for firmware, too: an array and its header.",
    )  # fmt: skip
    no_timing = click.option(
        "--no-timing", is_flag=True,
        help="OpenVINO in int8: don't measure for 2 s whether it is faster than float.",
    )  # fmt: skip
    return _COMPILER(no_compile(_DEVICE(no_timing(sram(flash(emit(command)))))))


def gate_options(command: Command) -> Command:
    """Limits of a compiled model; worse ends with exit code 5."""
    for option in reversed(
        (
            click.option(
                "--require-full-mapping", is_flag=True,
                help="Exit with 5 where an op is left on the CPU.",
            ),
            click.option(
                "--max-streamed-bytes", type=click.IntRange(0), metavar="N",
                help="Edge TPU: exit with 5 where more is streamed at every inference.",
            ),
            click.option(
                "--runtime-version", type=click.IntRange(1), metavar="N",
                help="Edge TPU: exit with 5 where a newer runtime is needed.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def compile_options(command: Command) -> Command:
    """All settings of edgetpu_compiler as flags."""
    for option in reversed(
        (
            _COMPILER,
            click.option(
                "-a", "--multiple-subgraphs", is_flag=True,
                help="Map what comes behind an unmapped op, too.",
            ),
            click.option(
                "-d", "--search-delegate", is_flag=True,
                help="Where it fails, try again with ever fewer ops.",
            ),
            click.option(
                "--delegate-search-step", type=click.IntRange(1), metavar="N",
                help="Ops fewer at each try of --search-delegate.",
            ),
            click.option(
                "-m", "--min-runtime-version", type=click.IntRange(1), metavar="N",
                help="Compile for a device with this version of the runtime.",
            ),
            click.option(
                "-i", "--intermediate-tensors", default="", metavar="NAME[,NAME]",
                help="Stop at these tensors; what is behind them stays on the CPU.",
            ),
            click.option(
                "-n", "--num-segments", type=click.IntRange(1), metavar="N",
                help="Cut the model into N files, for a pipeline of N devices.",
            ),
            click.option(
                "--timeout-sec", type=click.IntRange(1), metavar="N",
                help="The compiler's own time limit, 180 by default.",
            ),
            click.option(
                "--allow-float", is_flag=True,
                help="Compile although some operators compute in float.",
            ),
            _DEVICE,
        )
    ):  # fmt: skip
        command = option(command)
    return command
