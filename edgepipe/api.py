"""The Python interface: `edgepipe.convert` and `edgepipe.plan`, on the same engine as the command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe import catalog, inputs, making, onnx_file, pipeline, settings, toolchain
from edgepipe import plan as planning
from edgepipe.artifact import Artifact, Format, size_of
from edgepipe.errors import DiskFull, EdgepipeError, NoRouteLeft, PathError
from edgepipe.identify import suffix_note
from edgepipe.pipeline import Candidate, Outcome
from edgepipe.plan import Route
from edgepipe.report import document
from edgepipe.report.document import Account, Written
from edgepipe.request import Request, open_model
from edgepipe.runner import Description
from edgepipe.samples import SampleSource
from edgepipe.sandbox import Limits
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.story import Listener, Silent
from edgepipe.verify import Tolerance

COPIES = 6
"""Times the model's size that a run was seen to need on disk, with its intermediate files."""
HEADROOM = 64 << 20


@dataclass(frozen=True)
class Result:
    """Where everything is, and the report as data."""

    folder: Path
    model: Path
    files: dict[str, Path]
    report: dict[str, Any]
    report_path: Path

    @property
    def route(self) -> str:
        return str(self.report["chosen"])

    @property
    def sqnr_db(self) -> float | None:
        """The proof from end to end; None where there was nothing to prove."""
        chosen = next(item for item in self.report["routes"] if item["status"] == "chosen")
        proofs = [chosen["end_to_end"], *(step["proof"] for step in chosen["steps"])]
        return next((float(proof["sqnr_db"]) for proof in proofs if proof), None)


def convert(
    model: str | Path, *, listener: Listener | None = None, **arguments: Any
) -> Result:
    """Convert a model; every keyword is a field of `edgepipe.request.Request`.

    Raises a subclass of `edgepipe.EdgepipeError`, the same that the command prints.
    """
    return run(with_settings(Request.of(model, arguments)), listener or Silent())


def plan(model: str | Path, **arguments: Any) -> list[Route]:
    """The routes that `convert` would try, best first. Nothing is run."""
    request = with_settings(Request.of(model, arguments))
    request.check()
    return routes_for(request, format_of(request))


def with_settings(request: Request) -> Request:
    """The request, with the stage options of edgepipe.toml and the environment below its own."""
    project = settings.project_settings()
    merged: dict[str, dict[str, Any]] = {}
    for source in (project.get("options", {}), _environment_options(), request.options):
        for stage, values in source.items():
            catalog.stage(stage)
            merged.setdefault(stage, {}).update(values)
    if request.keep_layout:
        for found in catalog.stages():
            if "keep_layout" in found.options.names():
                merged.setdefault(found.name, {})["keep_layout"] = True
    for stage, values in merged.items():
        catalog.stage(stage).options.from_settings(values, stage)
    return replace(request, options=merged)


def _environment_options() -> Mapping[str, Mapping[str, Any]]:
    """EDGEPIPE_OPTION_<STAGE>_<FIELD>, in capitals, dots and dashes as underscores."""
    found: dict[str, dict[str, Any]] = {}
    if not any(name.startswith("EDGEPIPE_OPTION_") for name in os.environ):
        return found
    for stage in catalog.stages():
        for field in stage.options.names():
            name = f"EDGEPIPE_OPTION_{stage.name}_{field}".upper().replace(".", "_")
            if name in os.environ:
                found.setdefault(stage.name, {})[field] = os.environ[name]
    return found


def format_of(request: Request) -> Format:
    if request.factory():
        return Format.TORCH_SOURCE
    from edgepipe.identify import identify

    return identify(Path(request.model).expanduser())


def routes_for(request: Request, format: Format) -> list[Route]:
    found = planning.routes(format, catalog.target(request.target).format)
    return [planning.pick(found, request.route)] if request.route else found


def run(request: Request, listener: Listener) -> Result:
    """The whole of `edgepipe convert`."""
    start = time.perf_counter()
    request.check()
    routes = routes_for(request, format_of(request))
    lacking = toolchain.missing(routes[0].toolchains())
    if lacking is not None:
        raise lacking
    folder = request.output_folder()
    _check_folder(folder)
    with Store() as store, _session(request, store, listener) as session:
        source = open_model(request, session.folder if request.factory() else Path())
        _check_disk(store, source, folder)
        warnings = _warnings(source)
        for text in warnings:
            listener.note(text)
        source = _described(session, source, request, routes[0])
        account = Account(request, source, (), (), 0.0, warnings)
        try:
            outcome = pipeline.run(session, source, routes, request.explore, bool(request.route))
        except NoRouteLeft as error:
            _report_failure(account, session, folder, error, time.perf_counter() - start)
            raise
        return _deliver(account, session, folder, outcome, start)


def _session(request: Request, store: Store, listener: Listener) -> Session:
    samples = Path(request.samples).expanduser().absolute() if request.samples else None
    defaults = Limits()
    limits = Limits(
        seconds=request.stage_timeout or defaults.seconds,
        memory=int(request.stage_memory * (1 << 30)) if request.stage_memory else defaults.memory,
    )
    tolerance = Tolerance()
    if request.min_sqnr is not None:
        tolerance = replace(tolerance, sqnr_db=request.min_sqnr)
    return Session(
        store,
        listener,
        SampleSource(samples, request.seed),
        tolerance,
        request.options,
        limits,
        request.retry,
    )


def _described(session: Session, source: Artifact, request: Request, route: Route) -> Artifact:
    """The source with every input's shape fixed, its outputs as far as they are known."""
    specs = [inputs.parse(text) for text in request.inputs]
    session.listener.step_started(route.name, "read", str(source.format))
    described = making.describe(session, source, lambda: pipeline.warm_first(session, route))
    pinned = inputs.pin(described.signature, specs)
    return source.with_signature(pinned)


def _warnings(source: Artifact) -> list[str]:
    if source.format is Format.TORCH_SOURCE:
        return []
    note = suffix_note(source.path, source.format)
    return [note] if note else []


def _check_folder(folder: Path) -> None:
    """Refuse now what could not be written after an hour."""
    if folder.exists() and not folder.is_dir():
        raise PathError(
            f"the output folder {folder} is a file", hint="name another one with -o FOLDER."
        )
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PathError(f"{folder} can't be written", hint="name another folder with -o FOLDER.")


def _check_disk(store: Store, source: Artifact, folder: Path) -> None:
    size = _size(source)
    store.require(size * COPIES + HEADROOM)
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < size * 2 + HEADROOM:
        raise DiskFull(
            f"{there} has {free:,} bytes free, the results need about {size * 2 + HEADROOM:,}",
            hint="make room, or name a folder on another disk with -o.",
        )


def _deliver(
    account: Account, session: Session, folder: Path, outcome: Outcome, start: float
) -> Result:
    written = _write_models(folder, outcome.chosen)
    account = replace(
        account,
        trials=outcome.trials,
        written=tuple(written),
        seconds=time.perf_counter() - start,
    )
    report = document.of(account, session, folder)
    path = _write_report(folder, report)
    files = {item.path.name: item.path for item in written}
    return Result(folder, written[-1].path, files, report, path)


def _report_failure(
    account: Account, session: Session, folder: Path, error: NoRouteLeft, seconds: float
) -> None:
    """The story is worth having when nothing came of it, too."""
    report = document.of(replace(account, error=error, seconds=seconds), session, folder)
    report["routes"] = error.details.get("trials", [])
    with contextlib.suppress(EdgepipeError):  # The first error is the one to show.
        error.details["report"] = str(_write_report(folder, report))


def _write_models(folder: Path, chosen: Candidate) -> list[Written]:
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, artifact in pipeline.worth_keeping(chosen).items():
            _copy_model(artifact, folder / name)
            written.append(Written(folder / name, artifact, size_of(folder / name)))
    except OSError as error:
        raise _unwritable(folder, error) from error
    return written


def _copy_model(artifact: Artifact, target: Path) -> None:
    """Aside, then renamed: a killed run leaves the old file or the new one. Weights' files first."""
    if artifact.format is Format.ONNX:
        for file in onnx_file.external_files(artifact.path):
            _copy_file(file, target.parent / file.name)
    _copy_file(artifact.path, target)


def _copy_file(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _write_report(folder: Path, report: dict[str, Any]) -> Path:
    path = folder / "report.json"
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _unwritable(folder, error) from error
    return path


def _unwritable(folder: Path, error: OSError) -> EdgepipeError:
    if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
        return DiskFull(f"{folder}: no space left on its disk", hint="make room and run it again.")
    return PathError(
        f"{folder} can't be written: {error.strerror}", hint="name another folder with -o FOLDER."
    )


@dataclass(frozen=True)
class Inspection:
    """What a model is, without running it on data."""

    format: Format
    digest: str
    size: int
    description: Description

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format.value,
            "sha256": self.digest,
            "size": self.size,
            **self.description.to_json(),
        }


def inspect(model: str | Path, **arguments: Any) -> Inspection:
    """Describe a model of any format that edgepipe reads."""
    request = Request.of(model, arguments)
    kind = format_of(request)
    runner = catalog.runner(kind)
    if not runner.describes_in_core:
        lacking = toolchain.missing([runner.toolchain])
        if lacking is not None:
            raise lacking
    with Store() as store, _session(request, store, Silent()) as session:
        artifact = open_model(request, session.folder if request.factory() else Path())
        specs = [inputs.parse(text) for text in request.inputs]
        described = making.describe(session, artifact)
        if specs:
            pinned = inputs.pin(described.signature, specs)
            described = making.describe(session, artifact.with_signature(pinned))
        return Inspection(kind, artifact.digest, _size(artifact), described)


def _size(source: Artifact) -> int:
    """Bytes of everything that belongs to a model."""
    size = size_of(source.path)
    if source.format is Format.ONNX:
        size += sum(file.stat().st_size for file in onnx_file.external_files(source.path))
    if source.loading.weights:
        size += Path(source.loading.weights).stat().st_size
    return size
