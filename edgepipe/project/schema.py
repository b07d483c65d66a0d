"""The JSON schema of edgepipe.toml, made from the same tables that read it."""

from __future__ import annotations

import typing
from typing import Any

import click

from edgepipe import catalog
from edgepipe.data import preprocessing
from edgepipe.data.preprocessing import Steps
from edgepipe.project import keys
from edgepipe.project.keys import Key
from edgepipe.validation import limits

NAME = "edgepipe.schema.json"
LIMIT = {"type": ["number", "string"]}
_STEPS = {
    "resize": preprocessing.RESIZE,
    "crop": preprocessing.CROP,
    "layout": preprocessing.LAYOUTS,
    "channels": preprocessing.CHANNELS,
}


def document() -> dict[str, Any]:
    """Draft 7, which editors' TOML plugins know."""
    flags = _help_of_flags()
    settable = {name: _of(key, flags) for name, key in keys.request_keys().items()}
    model = {name: _of(key, flags) for name, key in keys.model_keys().items()}
    model |= {name: _of(key, flags) for name, key in keys.validation_keys().items()}
    model |= {
        "preprocessing": {"$ref": "#/definitions/preprocessing"},
        "options": {"$ref": "#/definitions/options"},
        "gates": {"$ref": "#/definitions/gates"},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "edgepipe.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "models": {
                "description": "The models that `edgepipe check` converts and judges.",
                "type": "object",
                "additionalProperties": {"$ref": "#/definitions/model"},
            },
            "defaults": {
                "description": "What all models inherit; tables are merged, lists replaced.",
                **_table(model),
            },
            "gates": {"$ref": "#/definitions/gates"},
            "convert": {
                "description": "What every conversion is asked, below flags.",
                **_table(settable),
            },
            "preprocessing": {"$ref": "#/definitions/preprocessing"},
            "options": {"$ref": "#/definitions/options"},
            "store": _table(
                {"folder": {"type": "string", "description": "Where results are kept."}}
            ),
            "toolchains": {
                "description": "The Python of a toolchain, where it is not edgepipe's own.",
                **_table({name: {"type": "string"} for name in catalog.TOOLCHAINS}),
            },
        },
        "definitions": {
            "model": {**_table(model)},
            "gates": _gates(),
            "preprocessing": _preprocessing(),
            "options": _options(),
        },
    }


def _table(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _of(key: Key, flags: dict[str, str]) -> dict[str, Any]:
    """`none` takes an inherited value away, so any key may be that."""
    kind = keys.schema_of(key.kind)
    if key.choices:
        kind = _chosen(kind, [*key.choices, keys.NONE])
    elif kind.get("type") != "string":
        kind = {"anyOf": [*kind.get("anyOf", [kind]), {"const": keys.NONE}]}
    words = key.help or flags.get(key.name, "")
    return {"description": words, **kind} if words else kind


def _chosen(kind: dict[str, Any], choices: list[str]) -> dict[str, Any]:
    if "anyOf" in kind:
        return {"anyOf": [_chosen(one, choices) for one in kind["anyOf"]]}
    if kind["type"] == "array":
        return {"type": "array", "items": {"enum": choices[:-1]}, "minItems": 1}
    return {"enum": choices}


def _gates() -> dict[str, Any]:
    words = {**limits.LEVELS, **{name: what for name, (_, what) in limits.COSTS.items()}}
    return {
        "description": "Limits; each passes, fails, or says that the samples do not tell.",
        "type": "object",
        "properties": {
            name: {"description": words.get(name, ""), **LIMIT} for name in limits.names()
        },
        # Any topK, and metrics of the user: `min-module:function`.
        "patternProperties": {"^(min|max|max-drop|max-drop-since)-(top[0-9]+|.+:.+)$": LIMIT},
        "additionalProperties": False,
    }


def _preprocessing() -> dict[str, Any]:
    """A table in it is of the input of that name, and holds the same keys."""
    hints = typing.get_type_hints(Steps)
    steps: dict[str, Any] = {}
    for name, kind in hints.items():
        if name in _STEPS:
            steps[name] = {"enum": list(_STEPS[name])}
        elif typing.get_origin(kind) is tuple:
            steps[name] = {
                "anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]
            }
        else:
            steps[name] = keys.schema_of(kind)
    return {
        "description": "What is done to the data before a model sees it.",
        "type": "object",
        "properties": steps,
        "additionalProperties": _table(steps),
    }


def _options() -> dict[str, Any]:
    stages = {}
    for stage in catalog.stages():
        hints = typing.get_type_hints(stage.options)
        stages[stage.name] = _table(
            {
                name: {"description": words, **keys.schema_of(hints[name])}
                for name, words in stage.options.names().items()
                if name not in stage.options.never_from_files
            }
        )
    return {"description": "Options of stages; see `edgepipe plan --options`.", **_table(stages)}


def _help_of_flags() -> dict[str, str]:
    """The keys are flags of `convert`, too: the words that explain them are the same."""
    from edgepipe.cli.convert import convert
    from edgepipe.cli.validate import validate

    return {
        str(option.name): str(option.help).replace(" Again for more.", "")
        for option in (*validate.params, *convert.params)
        if isinstance(option, click.Option) and option.help
    }
