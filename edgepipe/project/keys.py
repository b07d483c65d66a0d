"""What a [models.NAME] table may hold: each key with its type, read strictly and named in errors.

Most keys are fields of `Request`; JSON schema and reader are both made from this table.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgepipe import catalog
from edgepipe.errors import OptionError
from edgepipe.layers import SETTABLE
from edgepipe.request import Request
from edgepipe.validation.asked import BASELINES, DEVICES, Asked

NONE = "none"
"""Takes an inherited value away: TOML has no null."""
PATH, PATH_OR_NAME = "path", "path or name"


@dataclass(frozen=True)
class Key:
    """`kind` as an annotation says it; `choices` are for editors.

    `path`: relative to the file. What may be a name as well, of a column, is a path if it exists.
    """

    name: str
    kind: Any
    help: str = ""
    path: str = ""
    choices: tuple[str, ...] = ()


OWN = (
    Key("model", str, "The model's file or folder, or its factory as module:name.", path=PATH),
    Key("target", str | list[str], "One target, or several.", choices=tuple(catalog.TARGETS)),
    Key("weights", str, "State dict or .safetensors of a model that is code.", path=PATH),
    Key("model_args", dict[str, Any], "Arguments of the factory."),
    Key("submodule", str, "Only this part of a TorchScript file."),
    Key(
        "out",
        str,
        "Below which the results go, in a folder of the model's name. Default: out.",
        path=PATH,
    ),
    Key("preprocessing", dict[str, Any], "What is done to the data, see docs/data.md."),
    Key("options", dict[str, dict[str, Any]], "Options of stages: [models.NAME.options.STAGE]."),
)
_PATHS = {
    **dict.fromkeys(("samples", "calibration", "recipe", "python_path"), PATH),
    **dict.fromkeys(("labels", "truth"), PATH_OR_NAME),
}
VALIDATE = Key("validate", str, "Data to measure on, with labels if there are any.", path=PATH)
_NOT_OF_A_FILE = {
    *("artifact", "data", "request", "against", "out", "gates"),
    *("device", "jobs", "allow_undecided", "since"),
}
_CHOICES = {
    "precision": (catalog.FLOAT, "int8", "int16x8", "dynamic", "float16"),
    "repair": ("auto", "off", "always"),
    "calibration_method": ("min-max", "moving-average", "percentile", "mse", "entropy"),
    "io": ("int8", "uint8", "int16", "float32"),
    "emit": ("c",),
}


def request_keys() -> dict[str, Key]:
    """Those of [convert], too."""
    hints = typing.get_type_hints(Request)
    return {
        name: Key(name, hints[name], "", _PATHS.get(name, ""), _CHOICES.get(name, ()))
        for name in SETTABLE
    }


def model_keys() -> dict[str, Key]:
    """All keys of [models.NAME] and [defaults] but their table of gates."""
    return {**request_keys(), **{key.name: key for key in OWN}}


def validation_keys() -> dict[str, Key]:
    """What is measured and on what: keywords of `edgepipe.validate`."""
    hints = typing.get_type_hints(Asked)
    names = [item.name for item in fields(Asked) if item.name not in _NOT_OF_A_FILE]
    choices = {"baseline": BASELINES, "baseline_device": DEVICES}
    found = {
        name: Key(name, hints[name], "", _PATHS.get(name, ""), choices.get(name, ()))
        for name in names
    }
    return {VALIDATE.name: VALIDATE, **found}


def read(value: Any, key: Key, where: str) -> Any:
    """The value in its type. TOML has types, so text for a number is a mistake, not a spelling."""
    read = _read(value, key.kind)
    if read is None and value is not None:
        raise OptionError(
            f"{where} takes {words(key.kind)}, received {value!r}",
            hint=f"known: {', '.join(key.choices)}." if key.choices else key.help,
        )
    return read


def _read(value: Any, kind: Any) -> Any:
    """None where it does not fit."""
    if _is_union(kind):
        found = (_read(value, one) for one in _members(kind))
        return next((one for one in found if one is not None), None)
    origin = typing.get_origin(kind)
    if origin in (tuple, list):
        inner = typing.get_args(kind)[0]
        if not isinstance(value, (list, tuple)):
            return None
        items = [_read(item, inner) for item in value]
        return None if None in items else origin(items)
    if origin is not None and issubclass(origin, Mapping):
        return dict(value) if isinstance(value, Mapping) else None
    return _scalar(value, kind)


def _scalar(value: Any, kind: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path:
        kind = str
    if kind is int and isinstance(value, bool):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, kind) else None


def words(kind: Any) -> str:
    """A type in the words of somebody who writes TOML."""
    if _is_union(kind):
        return " or ".join(dict.fromkeys(words(one) for one in _members(kind)))
    origin = typing.get_origin(kind)
    if origin in (tuple, list):
        return f"a list of {words(typing.get_args(kind)[0]).removeprefix('a ')}"
    if origin is not None and issubclass(origin, Mapping):
        return "a table"
    known = {bool: "true or false", int: "a whole number", float: "a number"}
    return known.get(kind, "a text")


def schema_of(kind: Any) -> dict[str, Any]:
    """A type in the words of JSON schema."""
    if _is_union(kind):
        found: list[dict[str, Any]] = []
        for one in map(schema_of, _members(kind)):
            if one not in found:
                found.append(one)
        return found[0] if len(found) == 1 else {"anyOf": found}
    origin = typing.get_origin(kind)
    if origin in (tuple, list):
        return {"type": "array", "items": schema_of(typing.get_args(kind)[0])}
    if origin is typing.Literal:
        return {"enum": list(typing.get_args(kind))}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object"}
    names = {bool: "boolean", int: "integer", float: "number"}
    return {"type": names.get(kind, "string")}


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _members(kind: Any) -> list[Any]:
    return [one for one in typing.get_args(kind) if one is not types.NoneType]
