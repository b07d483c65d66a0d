"""A report as one HTML file beside it: no network, no script but ours, the verdict first."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from edgepipe import delivery
from edgepipe.errors import InputError
from edgepipe.report.html import (
    accuracy,
    boards,
    confusion,
    figures,
    files,
    frame,
    latency,
    layers,
    mapping,
    memory,
    origin,
    overview,
    path,
    verdict,
    worst,
)
from edgepipe.report.html.markup import Html
from edgepipe.report.html.view import Data, View

NAME = delivery.PAGE
HINT = "expected report.json of `edgepipe convert` or validation.json of `edgepipe validate`."
KINDS = {"routes", "candidate", "sources"}
"""What tells a report of convert, of validate, and of compile."""
Section = Callable[[View], "list[Html] | None"]
SECTIONS: Sequence[tuple[str, str, Section]] = (
    ("accuracy", accuracy.TITLE, accuracy.section),
    ("latency", latency.TITLE, latency.section),
    ("path", path.TITLE, path.section),
    ("files", files.TITLE, files.section),
    ("boards", boards.TITLE, boards.section),
    ("mapping", mapping.TITLE, mapping.section),
    ("layers", layers.TITLE, layers.section),
    ("memory", memory.TITLE, memory.section),
    ("worst", worst.TITLE, worst.section),
    ("confusion", confusion.TITLE, confusion.section),
    ("again", origin.TITLE, origin.section),
)


def render(report: Data, folder: Path | None = None, source: str = "report.json") -> str:
    """The page of a report of any kind that lies, or lay, in `folder`."""
    if "targets" in report:
        return overview.render(report)
    if not KINDS & set(report):
        raise InputError(f"{source} is no report that a page can be made of", hint=HINT)
    view = View.of(report, folder, source)
    parts = [(key, title, found) for key, title, one in SECTIONS if (found := one(view))]
    request = view.report.get("request", {})
    goal = " · ".join(str(request[key]) for key in ("target", "precision") if request.get(key))
    return frame.document(
        f"{view.name}: {verdict.words(view).headline.lower()}",
        view.name,
        " · ".join(one for one in (goal, str(view.report.get("created", ""))) if one),
        [verdict.section(view), figures.section(view)],
        parts,
    )


def write_beside(report: Path, data: Data) -> Path:
    """The page of a report that was just written."""
    source = report.name
    return write(report.with_name(NAME), render(data, report.parent, source))


def write(path: Path, page: str) -> Path:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def of_file(data: object, source: Path) -> str:
    """The page of a report that somebody names: it may be another program's, or damaged."""
    foreign = f"{source} is no report that a page can be made of"
    if not isinstance(data, dict):
        raise InputError(f"{foreign}: a JSON object was expected", hint=HINT)
    try:
        return render(data, source.parent, str(source))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"{foreign}: {why}", hint=HINT) from error
