"""What a request and a recipe say of quantization, as options of the stages that quantize."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepipe import catalog
from edgepipe.artifact import IR
from edgepipe.errors import ModelNotFound, OptionError, UnknownFormat
from edgepipe.request import Request
from edgepipe.runners.openvino_devices import families
from edgepipe.settings import read_toml

OPTIONS = {
    "precision": "scheme",
    "io": "io",
    "calibration_method": "method",
    "allow_float": "allow_float",
    "repair": "repair",
    "repair_budget": "repair_seconds",
    "min_sqnr": "limit_db",
}
"""Field of the request -> option of a stage."""
CHIPS = ("edgetpu",)
"""Targets for which a stage that quantizes has more to do than int8."""


def applied(request: Request) -> Request:
    """The request with its options filled in: `-O` over flags over the recipe."""
    recipe = _read_recipe(Path(request.recipe)) if request.recipe else {}
    request = _with_precision(request, recipe)
    if not request.quantizes:
        return request
    goal = catalog.target(request.target)
    if request.precision not in goal.precisions:
        return request  # `Request.check` says so, with those that there are.
    merged = _with_target(request, goal)
    said = {
        option: value
        for field, option in OPTIONS.items()
        if (value := getattr(request, field)) is not None and value != "" and value is not False
    }
    _check_known(said, request)
    for stage in catalog.stages():
        known = stage.options.names()
        if "unroll" in known and request.precision in catalog.CALIBRATED:
            merged.setdefault(stage.name, {}).setdefault("unroll", True)
        compiles = goal.compiled is not None and stage.target is goal.compiled
        if compiles and said.get("allow_float") and "allow_float" in known:
            merged.setdefault(stage.name, {}).setdefault("allow_float", True)
        if "scheme" not in known or stage.target is not goal.quantized:
            continue
        values = {name: value for name, value in said.items() if name in known}
        if "chip" in known and request.target in CHIPS:
            values["chip"] = request.target
        if request.device and stage.target in IR and "device" in known:
            # NNCF aims at one kind; of AUTO and several its own choice fits all.
            kinds = set(families(request.device))
            values |= {"device": kinds.pop()} if len(kinds) == 1 else {}
        values = {**recipe.get(stage.name, {}), **values, **merged.get(stage.name, {})}
        if values["scheme"] != request.precision:
            raise OptionError(
                f"two precisions were asked for: --precision {request.precision} and"
                f" {stage.name}.scheme={values['scheme']}",
                hint="leave the option out; --precision sets it.",
            )
        stage.options.from_settings(values, stage.name)
        merged[stage.name] = values
    return replace(request, options=merged)


def _with_target(request: Request, goal: catalog.Target) -> dict[str, dict[str, Any]]:
    """The options with what the target says of stages; the two must not contradict each other."""
    merged = {name: dict(values) for name, values in request.options.items()}
    for name, told in goal.options.items():
        for option, value in told.items():
            other = merged.setdefault(name, {}).setdefault(option, value)
            if other != value:
                raise OptionError(
                    f"--target {goal.name} and -O {name}.{option}={other} contradict each other",
                    hint="leave the option out; --target sets it.",
                )
    limit = request.gates().max_sram
    compiling = merged.get("ethosu_from_tflite", {})
    # What must fit is worth aiming at; when told to be small, Vela has no use for an aim.
    if limit is not None and compiling and compiling.get("optimise") != "Size":
        compiling.setdefault("arena_cache_size", limit)
    return merged


def _check_known(said: Mapping[str, Any], request: Request) -> None:
    """What no stage of the target takes is refused, rather than passed over."""
    goal = catalog.target(request.target)
    ends = [stage for stage in catalog.stages() if stage.target is goal.quantized]
    known = {name for stage in ends for name in stage.options.names()}
    for field in ("calibration_method", "allow_float", "repair"):
        if OPTIONS[field] in said and OPTIONS[field] not in known:
            flag = "--" + field.replace("_", "-")
            raise OptionError(
                f"{flag} does not exist for target {request.target}",
                hint=f"leave it out; see `-O {ends[0].name}.NAME=VALUE`: "
                f"{', '.join(sorted(ends[0].options.names()))}.",
            )


def _with_precision(request: Request, recipe: Mapping[str, Mapping[str, Any]]) -> Request:
    """A recipe says the precision, where nothing else does."""
    schemes = {str(values["scheme"]) for values in recipe.values() if "scheme" in values}
    if not schemes:
        return request
    if len(schemes) > 1 or (request.quantizes and {request.precision} != schemes):
        raise OptionError(
            f"the recipe {request.recipe} is for {' and '.join(sorted(schemes))},"
            f" --precision says {request.precision}",
            hint="leave --precision out, or the recipe.",
        )
    return replace(request, precision=schemes.pop())


def _read_recipe(path: Path) -> dict[str, dict[str, Any]]:
    """Tables of options by stage; every name in it must be known."""
    if not path.is_file():
        raise ModelNotFound(f"there is no recipe {path}")
    recipe = read_toml(path)
    for name, values in recipe.items():
        if not isinstance(values, dict):
            raise UnknownFormat(f"{path}: {name} is no table of options", hint="[tflite_quantize]")
        catalog.stage(name).options.from_settings(values, name)
    return recipe
