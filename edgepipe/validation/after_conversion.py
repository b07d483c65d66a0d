"""`convert` with `validate=DATA`: the result beside its float model, in the same report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe import api, delivery, manifest
from edgepipe.api import Result
from edgepipe.errors import OptionError
from edgepipe.layers import request_for
from edgepipe.request import Request
from edgepipe.story import Listener
from edgepipe.validation.asked import Asked

if TYPE_CHECKING:
    from edgepipe.validation.validating import Validated

OTHERS = ("artifact", "request", "data", "against", "out", "device")
"""Of a validation's keywords those that a conversion settles."""
SHARED = (
    "labels", "columns", "seed", "trust", "python_path", "custom_objects", "preprocessing", "retry",
)  # fmt: skip
"""Of a conversion's keywords those that the report doesn't hand on. A limit is not among them: it
says how many samples are calibrated on."""

FLAGS = {"gates": "gate", "metrics": "metric"}
"""Keywords whose flags, said again for more, are in the singular."""


def converted(
    model: str | Path, arguments: Mapping[str, Any], listener: Listener
) -> tuple[Result, Validated | None]:
    """The result, and the validation that was asked for, its gates not judged yet."""
    if isinstance(arguments.get("target"), (list, tuple)):
        raise OptionError(
            "convert takes one target, received several",
            hint="edgepipe.convert_targets(model, [...]) has a result for each.",
        )
    conversion, wanted = parted(arguments)
    request = request_for(model, conversion)
    _check(request, wanted)
    result = api.run(request, listener)
    return add(result, request, wanted, listener) if wanted else (result, None)


def parted(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keywords of the conversion, and those of the validation after it."""
    own = ({item.name for item in fields(Asked)} - set(OTHERS)) | {"validate"}
    conversion = {name: value for name, value in arguments.items() if name not in own}
    validation = {name: value for name, value in arguments.items() if name in own}
    if validation and not validation.get("validate"):
        said = [FLAGS.get(name, name).replace("_", "-") for name in sorted(validation)]
        flags = ", ".join(f"--{name}" for name in said)
        raise OptionError(
            f"{flags}: of use with --validate only",
            hint="say on which samples: --validate DATA.",
        )
    return conversion, validation


def _check(request: Request, wanted: Mapping[str, Any]) -> None:
    """What is asked wrongly is said before the conversion."""
    if wanted:
        Asked.of(request.output_folder(), {**_said(wanted), "data": wanted["validate"]})
        request.data(wanted["validate"])


def _said(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if name != "validate"}


def add(
    result: Result, request: Request, wanted: Mapping[str, Any], listener: Listener
) -> tuple[Result, Validated]:
    """The result with `validation` in its report. The gates are not judged yet."""
    from edgepipe.validation import validating  # needs numpy, and most conversions don't

    shared = {name: getattr(request, name) for name in SHARED}
    asked = Asked.of(result.folder, {**shared, **_said(wanted), "data": wanted["validate"]})
    found = validating.seen(asked, listener)
    document = validating.document(asked, found)
    report = {**result.report, "validation": document}
    path = delivery.write_report(result.folder, report)
    manifest.add(result.folder, [path.name, delivery.PAGE])
    return replace(result, report=report), validating.Validated(
        found, document, path, asked.allow_undecided
    )
