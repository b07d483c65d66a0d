"""`edgepipe.convert_targets`: one model for several targets, with one report on all of them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe import __version__, api, catalog, delivery, manifest
from edgepipe.api import Result
from edgepipe.artifact import IR
from edgepipe.errors import EdgepipeError, OptionError
from edgepipe.layers import request_for
from edgepipe.report import target_row
from edgepipe.report.outcome import Outcome
from edgepipe.report.target_row import TargetRow
from edgepipe.request import Request
from edgepipe.runners.openvino_devices import is_name
from edgepipe.shown import Shown
from edgepipe.story import Listener, Silent
from edgepipe.validation import after_conversion

SCHEMA = 1
WORST_FIRST = (1, 2, 4, 5, 3, 0)
"""Exit codes: our bug, asked wrongly, no result, a result below the limits, not finished here."""
CHIP_FIELDS = (
    "compiler",
    "device",
    "no_compile",
    "require_full_mapping",
    "max_streamed_bytes",
    "runtime_version",
    "max_sram",
    "max_flash",
    "emit",
)
"""Arguments that mean something to some targets only, see `catalog.Target.flags`."""


@dataclass(frozen=True)
class TargetResults(Shown):
    """A line for each target; `results` of those that got to their end, `errors` of the others."""

    folder: Path
    rows: tuple[TargetRow, ...]
    results: dict[str, Result]
    errors: dict[str, EdgepipeError]
    report: dict[str, Any]
    report_path: Path

    @property
    def exit_code(self) -> int:
        """The worst, as the command ends with it."""
        return min((row.exit_code for row in self.rows), key=WORST_FIRST.index)

    def outcomes(self, name: str) -> list[Outcome]:
        """For JUnit and Markdown: one a target."""
        return [
            Outcome.of(
                f"{name}/{row.target}",
                self.results[row.target].report if row.target in self.results else None,
                self.errors.get(row.target),
                self.folder / row.target,
            )
            for row in self.rows
        ]

    def check(self) -> None:
        """Raise the worst error, with what became of the other targets."""
        if not self.errors:
            return
        worst = min(self.errors.values(), key=lambda one: WORST_FIRST.index(one.exit_code))
        lines = [f"  {target}: {one.message}" for target, one in self.errors.items()]
        hints = [f"{target}: {one.hint}" for target, one in self.errors.items() if one.hint]
        raise type(worst)(
            f"{len(self.errors)} of {len(self.rows)} targets didn't get to their end:\n"
            + "\n".join(lines),
            hint="\n".join(hints),
            report=str(self.report_path),
            targets=[row.to_json() for row in self.rows],
        )


def convert_targets(
    model: str | Path,
    targets: Sequence[str],
    *,
    listener: Listener | None = None,
    **arguments: Any,
) -> TargetResults:
    """Convert a model for each target, in a sub-folder of `out`; keywords as for `convert`.

    A target that fails doesn't stop the others: its error is in the row and in `errors`. Raises
    what concerns all of them, and what can't be asked of one, before anything is run.
    """
    start = time.perf_counter()
    told = listener or Silent()
    conversion, wanted = after_conversion.parted(arguments)
    asked = requests(model, targets, conversion)
    folder = _folder(asked[0][0])
    for request, _ in asked:
        api.routes_for(request, api.format_of(request))
    delivery.check_folder(folder)
    rows: list[TargetRow] = []
    results: dict[str, Result] = {}
    errors: dict[str, EdgepipeError] = {}
    for number, (request, notes) in enumerate(asked, 1):
        told.note(f"target {request.target}, {number} of {len(asked)}")
        for note in notes:
            told.note(note)
        target, below = request.target, folder / request.target
        try:
            timed = catalog.target(target).compiled is None
            results[target] = api.run(replace(request, out=below), told, timed)
            if wanted:
                results[target], seen = after_conversion.add(results[target], request, wanted, told)
                seen.check()
        except EdgepipeError as error:
            if error.message not in {one.message for one in errors.values()}:
                told.note(f"{target} didn't get to its end: {error.message}")
            errors[target] = error
        failed = errors.get(target)
        report = _report(below, results.get(target), failed)
        rows.append(target_row.row(target, request.precision, report, below, failed, notes))
    if len(errors) == len(rows) and len({one.message for one in errors.values()}) == 1:
        raise next(iter(errors.values()))  # Of the model or the data: it is no target's fault.
    summary = _summary(str(model), rows, time.perf_counter() - start)
    with contextlib.suppress(OSError):
        delivery.clear_earlier(folder, set())
    path = delivery.write_report(folder, summary)
    made = [row.target for row in rows if (folder / row.target).is_dir()]
    page = [delivery.PAGE] if (folder / delivery.PAGE).is_file() else []
    manifest.write(folder, [path.name, *page, *made])
    return TargetResults(folder, tuple(rows), results, errors, summary, path)


def requests(
    model: str | Path,
    targets: Iterable[str],
    arguments: Mapping[str, Any],
    start: Path | None = None,
) -> list[tuple[Request, tuple[str, ...]]]:
    """A checked request for each target, with what is not used for it.

    `start` is where the nearest edgepipe.toml is looked for, the current folder by default.
    """
    names = list(targets)
    for name in names:
        catalog.target(name)
    if len(set(names)) < len(names) or not names:
        raise OptionError(
            f"each target is named once, received {', '.join(names) or 'none'}",
            hint="the options of a run hold for all of its targets: run it twice for two variants.",
        )
    if arguments.get("route") and len(names) > 1:
        raise OptionError(
            "--route names a route of one target, and several were named",
            hint="leave it out, or run each target alone.",
        )
    goals = [catalog.target(name) for name in names]
    said = _said(arguments)
    for field, flag in said.items():
        if not any(_takes(goal, field, arguments[field]) for goal in goals):
            raise OptionError(
                f"{flag}: for none of the targets {', '.join(names)}",
                hint="leave it out, or name the chip that it is for with --target.",
            )
    found = []
    for goal in goals:
        foreign = foreign_to(goal, arguments)
        taken = {name: value for name, value in arguments.items() if name not in foreign}
        try:
            request = request_for(model, {**taken, "target": goal.name}, start)
            request.check()
        except OptionError as error:
            error.args = (f"target {goal.name}: {error.message}",)
            error.message = error.args[0]
            raise
        notes = tuple(
            f"{said[field]} is not for {goal.name} and not used there" for field in foreign
        )
        found.append((request, notes))
    return found


def foreign_to(goal: catalog.Target, arguments: Mapping[str, Any]) -> list[str]:
    """What was said that means nothing to this target."""
    return [field for field in _said(arguments) if not _takes(goal, field, arguments[field])]


def _said(arguments: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: _flag(name) for name in CHIP_FIELDS if arguments.get(name) not in (None, "", False)
    }


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _takes(goal: catalog.Target, field: str, value: Any) -> bool:
    if field == "device" and _flag(field) in goal.flags:
        # The words of Edge TPUs and those of OpenVINO's devices never mean each other.
        return is_name(str(value)) == (goal.format in IR)
    return _flag(field) in goal.flags or (field == "emit" and goal.name == "tflite")


def _folder(request: Request) -> Path:
    """`NAME_targets` where none was named."""
    if request.out is not None:
        return Path(request.out)
    return Path(f"{request.output_folder().name.removesuffix(f'_{request.target}')}_targets")


def _report(
    folder: Path, result: Result | None, error: EdgepipeError | None
) -> dict[str, Any] | None:
    """This run's report, never one that an earlier run left there."""
    if result is not None:
        return result.report
    if error is None or not error.details.get("report"):
        return None
    read: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return read


def _summary(model: str, rows: Sequence[TargetRow], seconds: float) -> dict[str, Any]:
    summary = {
        "schema": SCHEMA,
        "edgepipe": __version__,
        "model": model,
        "status": "done" if all(row.status == "done" for row in rows) else "incomplete",
        "exit_code": min((row.exit_code for row in rows), key=WORST_FIRST.index),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "targets": [row.to_json() for row in rows],
        "seconds": round(seconds, 3),
    }
    plain: dict[str, Any] = json.loads(json.dumps(summary, allow_nan=False))
    return plain
