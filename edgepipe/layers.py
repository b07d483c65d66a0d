"""Settings in layers: defaults, then edgepipe.toml, then the environment, then what was said."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepipe import catalog, precision_options, settings
from edgepipe.data import preprocessing
from edgepipe.errors import OptionError, UnknownName
from edgepipe.request import Request
from edgepipe.stage import read_setting

SETTABLE = (
    "target",
    "precision",
    "inputs",
    "samples",
    "calibration",
    "labels",
    "columns",
    "limit",
    "held_out",
    "io",
    "calibration_method",
    "repair",
    "repair_budget",
    "allow_float",
    "recipe",
    "seed",
    "python_path",
    "custom_objects",
    "route",
    "explore",
    "keep_layout",
    "min_sqnr",
    "max_error",
    "min_agreement",
    "no_compile",
    "no_timing",
    "require_full_mapping",
    "max_streamed_bytes",
    "runtime_version",
    "max_sram",
    "max_flash",
    "emit",
    "stage_timeout",
    "stage_memory",
)
"""Never `trust`: a file in a checkout must not be able to consent to running its own code."""

REQUEST_PREFIX, OPTION_PREFIX = "EDGEPIPE_CONVERT_", "EDGEPIPE_OPTION_"


def request_for(
    model: str | Path, arguments: Mapping[str, Any], start: Path | None = None
) -> Request:
    """The whole request: what was said, on top of the environment, on top of edgepipe.toml."""
    project = settings.project_settings(start)
    table = project.get("convert", {})
    for name in table:
        if name not in SETTABLE:
            raise UnknownName.of("key of [convert] in edgepipe.toml", name, SETTABLE)
    hints = typing.get_type_hints(Request)
    below = {**table, **_from_environment()}
    read = {name: read_setting(value, hints[name], name) for name, value in below.items()}
    request = _with_precision(Request.of(model, {**read, **arguments}), {**read, **arguments})
    below_it = project.get("preprocessing", {})
    if below_it:
        said = request.preprocessing
        table = said if isinstance(said, Mapping) else preprocessing.read_file(Path(said))
        request = replace(request, preprocessing={**below_it, **table})
    return precision_options.applied(_with_options(request, project.get("options", {})))


def _with_precision(request: Request, said: Mapping[str, Any]) -> Request:
    """Where none was said, the first that the target has: chips have no float."""
    goal = catalog.TARGETS.get(request.target)
    if goal is None or "precision" in said:
        return request
    return replace(request, precision=goal.precisions[0])


def _from_environment() -> dict[str, str]:
    """EDGEPIPE_CONVERT_TARGET and so on; a name that is none is refused, as it would do nothing."""
    found = {}
    for variable, value in os.environ.items():
        if variable.startswith(REQUEST_PREFIX):
            name = variable.removeprefix(REQUEST_PREFIX).lower()
            if name not in SETTABLE:
                known = [f"{REQUEST_PREFIX}{item.upper()}" for item in SETTABLE]
                raise UnknownName.of("environment variable", variable, known)
            found[name] = value
    return found


def _with_options(request: Request, project: Mapping[str, Mapping[str, Any]]) -> Request:
    merged: dict[str, dict[str, Any]] = {}
    for stage, values in project.items():
        for name in set(values) & set(catalog.stage(stage).options.never_from_files):
            raise OptionError(
                f"edgepipe.toml can't set {stage}.{name}: it names a program, which would be run",
                hint=f"say it on the command line: -O {stage}.{name}=…",
            )
    for source in (project, _options_of_environment(), request.options):
        for stage, values in source.items():
            catalog.stage(stage)
            merged.setdefault(stage, {}).update(values)
    if request.keep_layout:
        for found in catalog.stages():
            if "keep_layout" in found.options.names():
                merged.setdefault(found.name, {})["keep_layout"] = True
    _add_compiler(request, merged)
    for stage, values in merged.items():
        catalog.stage(stage).options.from_settings(values, stage)
    return replace(request, options=merged)


def _add_compiler(request: Request, merged: dict[str, dict[str, Any]]) -> None:
    """What the request says of compiling, for the stage of the target that does it."""
    goal = catalog.TARGETS.get(request.target)
    if goal is None or goal.compiled is None:
        return
    said = {"compiler": request.compiler, "allow_float": request.allow_float}
    for found in catalog.stages():
        if found.target is goal.compiled:
            known = {name: value for name, value in said.items() if value}
            known = {name: known[name] for name in known if name in found.options.names()}
            merged[found.name] = {**known, **merged.get(found.name, {})}


def _options_of_environment() -> Mapping[str, Mapping[str, Any]]:
    """EDGEPIPE_OPTION_<STAGE>_<FIELD>, in capitals, dots and dashes as underscores."""
    given = {name for name in os.environ if name.startswith(OPTION_PREFIX)}
    found: dict[str, dict[str, Any]] = {}
    known: set[str] = set()
    for stage in catalog.stages() if given else ():
        for field in stage.options.names():
            name = f"{OPTION_PREFIX}{stage.name}_{field}".upper().replace(".", "_")
            known.add(name)
            if name in given:
                found.setdefault(stage.name, {})[field] = os.environ[name]
    for name in sorted(given - known):
        raise UnknownName.of("environment variable", name, known)
    return found
