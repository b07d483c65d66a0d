"""Preprocessing as data: what is done to a pixel or a number before a model sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgepipe import settings
from edgepipe.errors import OptionError, UnknownName

RESIZE = ("nearest", "bilinear", "bicubic", "area")
CROP = ("none", "center", "short-side")
LAYOUTS = ("NHWC", "NCHW")
CHANNELS = ("RGB", "BGR", "grey")


@dataclass(frozen=True)
class Steps:
    """What is done to one input. The number that the model sees is (x · scale - mean) / std.

    `resize` without `antialias` looks at the nearest pixels only, as TensorFlow's default does.
    `crop`: `none` squeezes the whole image into the input's size; `short-side` resizes the
    short side to the input's and cuts the middle out; `center` cuts without resizing, or after
    the short side was resized to `size` (256 before 224, as ImageNet models are evaluated).
    `layout` is that of the model's input, found by its shape where it is empty; naming it lets
    arrays of the other layout be moved. `rate` and `fit` are for sound: samples a second, and
    whether shorter and longer recordings are padded and cut.
    """

    resize: str = "bilinear"
    antialias: bool = True
    crop: str = "none"
    size: int = 0
    channels: str = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str = ""
    dtype: str = ""
    rate: int = 0
    resample: bool = False
    fit: bool = False

    @property
    def changes_values(self) -> bool:
        return self.scale != 1.0 or bool(self.mean) or bool(self.std)

    def changed(self) -> dict[str, Any]:
        """What differs from the defaults."""
        plain = Steps()
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value != getattr(plain, name)
        }


@dataclass(frozen=True)
class Preprocessing:
    """Steps for every input, or others for some inputs by name."""

    steps: Steps = Steps()
    by_input: tuple[tuple[str, Steps], ...] = ()

    def of(self, name: str) -> Steps:
        return dict(self.by_input).get(name, self.steps)

    def to_json(self) -> dict[str, Any]:
        """As `read` takes it: all that differs from the defaults."""
        return {**self.steps.changed(), **{name: step.changed() for name, step in self.by_input}}


def read(table: Mapping[str, Any], where: str = "[preprocessing]") -> Preprocessing:
    """A table of steps; a table within it holds what differs for the input of that name."""
    common = {name: value for name, value in table.items() if not isinstance(value, Mapping)}
    inner = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    return Preprocessing(
        _steps(common, where),
        tuple(
            (name, _steps({**common, **value}, f"{where} {name}")) for name, value in inner.items()
        ),
    )


def read_file(path: Path) -> dict[str, Any]:
    """The table of a TOML file: its [preprocessing], or all of it where there is none."""
    table = settings.read_toml(path)
    inner = table.get("preprocessing")
    return dict(inner) if isinstance(inner, dict) else table


def _steps(table: Mapping[str, Any], where: str) -> Steps:
    known = {item.name: item for item in fields(Steps)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise UnknownName.of(f"key of {where}", name, known)
        values[name] = _value(name, value, getattr(Steps(), name), where)
    for name, choices in (
        ("resize", RESIZE), ("crop", CROP), ("layout", ("", *LAYOUTS)), ("channels", CHANNELS),
    ):  # fmt: skip
        if values.get(name, choices[0]) not in choices:
            raise UnknownName.of(f"{name} of {where}", str(values[name]), filter(None, choices))
    return _checked(Steps(**values), where)


def _value(name: str, value: Any, default: Any, where: str) -> Any:
    """One setting in the type of its default; numbers for lists, and integers for floats, pass."""
    if isinstance(default, tuple):
        items = value if isinstance(value, (list, tuple)) else [value]
        if items and all(map(_is_number, items)):
            return tuple(float(item) for item in items)
    elif isinstance(default, bool):
        if isinstance(value, bool):
            return value
    elif isinstance(default, float):
        if _is_number(value):
            return float(value)
    elif isinstance(default, int):
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    elif isinstance(value, str):
        return value
    kinds = {tuple: "a number or a list of numbers", bool: "true or false", float: "a number"}
    wanted = kinds.get(type(default), "a whole number" if isinstance(default, int) else "text")
    raise OptionError(f"{where}: {name} takes {wanted}, received {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _checked(steps: Steps, where: str) -> Steps:
    if any(value == 0 for value in steps.std):
        raise OptionError(f"{where}: std of 0 divides by nothing", hint="leave it out, or write 1.")
    lengths = {len(steps.mean), len(steps.std)} - {0, 1}
    if len(lengths) > 1:
        raise OptionError(
            f"{where}: mean has {len(steps.mean)} numbers and std {len(steps.std)}",
            hint="write one number, or one for each channel.",
        )
    return steps
