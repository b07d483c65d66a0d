"""The flags that say how a deployed model is measured beside its float one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgepipe.validation import limits
from edgepipe.validation.asked import BASELINES, DEVICES

Command = Callable[..., Any]
GLANCE = 5.0
"""Seconds for a latency that nobody set a limit to."""
TIMED = ("latency", "p99", "energy")
"""In the names of limits that are judged by how long it took."""

latency_options = (
    click.option(
        "--latency-budget", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
        help="Longest time for measuring latency; it ends when enough is known. Default: 20.",
    ),
    click.option(
        "--batch", type=click.IntRange(min=1), multiple=True, metavar="N",
        help="Samples at once, for the table of throughput. Again for more. Default: 1.",
    ),
)  # fmt: skip
"""What `bench` takes, too."""


def validation_options(command: Command) -> Command:
    """What `convert --validate` takes, too."""
    for option in reversed(
        (
            click.option(
                "--baseline", metavar="NAME",
                help=f"What runs the float model: {', '.join(BASELINES)}. Default: its own"
                " framework.",
            ),
            click.option(
                "--baseline-device", metavar="NAME",
                help=f"{' or '.join(DEVICES)}. Default: cpu.",
            ),
            click.option(
                "--metric", "metrics", multiple=True, metavar="NAME[@OUTPUT]",
                help="What to measure, or module:function. Again for more. Default: all that"
                " applies.",
            ),
            click.option(
                "--truth", metavar="TRUTH",
                help="What is true beside labels: a column of the data, a file of numbers, a"
                " folder of masks, COCO's .json, or module:function.",
            ),
            click.option(
                "--postprocess", multiple=True, metavar="NAME[:SETTING=VALUE,...]",
                help="Done to both sides' outputs: softmax, sigmoid, argmax, yolo, ssd, or"
                " module:function. Again for more.",
            ),
            click.option(
                "--gate", "gates", multiple=True, metavar="NAME=VALUE",
                help="A limit that must hold, else the exit code is 5. Again for more.",
            ),
            click.option(
                "--since", type=click.Path(path_type=Path), metavar="FILE",
                help="The validation.json of the run that was accepted, for the limits that are"
                " about it.",
            ),
            click.option(
                "--allow-undecided", is_flag=True,
                help="Let a gate pass that too few samples decide.",
            ),
            click.option(
                "--allow-leak", is_flag=True,
                help="Take samples that the model was calibrated on.",
            ),
            click.option(
                "--jobs", type=click.IntRange(min=0), metavar="N",
                help="Processes that evaluate. Default: one a core.",
            ),
            click.option(
                "--worst", type=click.IntRange(min=0), metavar="N",
                help="Samples to show on which both sides differ most. Default: 8.",
            ),
            click.option(
                "--latency/--no-latency", default=None,
                help="Measure latency, memory, energy and placement. Default: yes, for"
                f" {GLANCE:g} seconds where no gate asks for more.",
            ),
            *latency_options,
        )
    ):  # fmt: skip
        command = option(command)
    return command


def settle(flags: dict[str, Any], validating: bool) -> None:
    """Reads the gates, and measures latency unless that was refused. Python callers say so."""
    flags["gates"] = limits.pairs(flags["gates"])
    if not validating or flags["latency"] is not None:
        return
    flags["latency"] = True
    timed = any(word in name for name in flags["gates"] for word in TIMED)
    if flags["latency_budget"] is None and not timed:
        flags["latency_budget"] = GLANCE
