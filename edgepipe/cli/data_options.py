"""The flags that say which data a model is fed, and what is done to it before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgepipe.data import preprocessing
from edgepipe.errors import OptionError

Command = Callable[..., Any]


def data_options(command: Command) -> Command:
    for option in reversed(
        (
            click.option(
                "--labels", default="", metavar="NAME",
                help="A .csv of name,label, a .txt of class names, a CSV column or an array.",
            ),
            click.option(
                "--columns", default="", metavar="A,B,C", help="The columns of a CSV to feed."
            ),
            click.option(
                "--limit", type=click.IntRange(min=1), metavar="N",
                help="Take this many samples, chosen by the seed, with the labels' shares kept.",
            ),
            click.option(
                "--preprocessing", "preprocessing_file", type=click.Path(path_type=Path),
                metavar="FILE.toml", help="What is done to the data; the flags below go over it.",
            ),
            click.option("--resize", metavar="METHOD", help=_known(preprocessing.RESIZE)),
            click.option(
                "--antialias/--no-antialias", default=None,
                help="Without, as TensorFlow and OpenCV resize. Default: with, as Pillow does.",
            ),
            click.option("--crop", metavar="HOW", help=_known(preprocessing.CROP)),
            click.option(
                "--size", type=click.IntRange(min=1), metavar="N",
                help="Short side of the image before --crop center.",
            ),
            click.option("--channels", metavar="ORDER", help=_known(preprocessing.CHANNELS)),
            click.option(
                "--scale", metavar="X", help="Factor of each value, 1/255 for instance. Default: 1."
            ),
            click.option("--mean", metavar="A,B,C", help="Taken away after the scale."),
            click.option("--std", metavar="A,B,C", help="Divided by after the mean."),
            click.option(
                "--layout", metavar="NAME",
                help="NHWC or NCHW, as the model takes it; arrays of the other one are moved.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _known(names: tuple[str, ...]) -> str:
    return f"{', '.join(names)}."


def read_data_flags(arguments: dict[str, Any]) -> None:
    """Put the flags of preprocessing together as one table, on top of the file's."""
    file = arguments.pop("preprocessing_file", None)
    table: dict[str, Any] = preprocessing.read_file(file) if file else {}
    for name in ("resize", "antialias", "crop", "size", "channels", "layout"):
        if name in arguments:
            table[name] = arguments.pop(name)
    for name in ("scale", "mean", "std"):
        if name in arguments:
            numbers = [_number(name, text) for text in arguments.pop(name).split(",")]
            table[name] = numbers[0] if name == "scale" and len(numbers) == 1 else numbers
    if table:
        arguments["preprocessing"] = table
    if "columns" in arguments:
        arguments["columns"] = tuple(arguments["columns"].split(","))


def _number(name: str, text: str) -> float:
    above, _, below = text.partition("/")  # 1/127.5 is how people say it.
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise OptionError(
            f"--{name} takes numbers, received {text!r}", hint="for instance 0.485,0.456,0.406."
        ) from error
