"""`edgepipe compile`: int8 files to the compiler and its results into a folder, with a report."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepipe import __version__, delivery
from edgepipe.artifact import digest_file
from edgepipe.errors import EdgepipeError, LimitError, OptionError, ToolMissing
from edgepipe.gates import Gates
from edgepipe.session import Session
from edgepipe.shown import Shown
from edgepipe.store import Store
from edgepipe.targets.edgetpu import (
    compilable,
    compiler,
    compiling,
    device_run,
    preflight,
)
from edgepipe.targets.edgetpu.compile_options import CompileOptions
from edgepipe.targets.edgetpu.compiling import Compilation

SCHEMA = 1
LOG = "compile.log"


@dataclass(frozen=True)
class Compiled(Shown):
    """The folder, the compiled files in order, and the report as data."""

    folder: Path
    files: tuple[Path, ...]
    report: dict[str, Any]
    report_path: Path


@dataclass(frozen=True)
class _Asked:
    models: tuple[Path, ...]
    options: CompileOptions
    gates: Gates
    folder: Path
    device: str


def compile(
    models: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    require_full_mapping: bool = False,
    max_streamed_bytes: int | None = None,
    runtime_version: int | None = None,
    device: str = "",
    **options: Any,
) -> Compiled:
    """Compile int8 TFLite files, several of them to share one Edge TPU.

    The other keywords are the fields of `CompileOptions`: compiler, multiple_subgraphs,
    num_segments and so on. Raises a subclass of `edgepipe.EdgepipeError`.
    """
    named = [models] if isinstance(models, (str, Path)) else list(models)
    if not named:
        raise OptionError("no model was named", hint="edgepipe compile MODEL_int8.tflite -o OUT")
    typed = CompileOptions.from_settings(options, "compile")
    assert isinstance(typed, CompileOptions)
    gates = Gates(require_full_mapping, max_streamed_bytes, runtime_version)
    paths = tuple(Path(one).expanduser() for one in named)
    return _run(_Asked(paths, typed, gates, Path(out), device))


def _run(asked: _Asked) -> Compiled:
    """All that can be refused is refused first; the report is written whatever happens then."""
    asked.options.check()
    delivery.check_folder(asked.folder)
    models = [compilable.load(path, asked.options.allow_float) for path in asked.models]
    if asked.device:
        device_run.probe(asked.device)
    report = _report(asked)
    report["foretold"] = {
        path.name: preflight.of_model(model, asked.options.multiple_subgraphs, path.name).to_json()
        for path, model in zip(asked.models, models, strict=True)
    }
    with Store() as store, Session(store) as session:
        work = session.folder  # What a killed run leaves there, the next one sweeps away.
        try:
            found = compiler.find(asked.options.compiler)
            made = compiling.compile_models(
                found, asked.models, asked.options, work / "work", work / LOG
            )
            report |= {"compiled": True, **made.to_json()}
            report["proofs"] = _proofs(asked, made)
            _check(asked.gates, made)
        except EdgepipeError as error:
            _tell(asked, report, error, work / LOG)
            raise
        return _deliver(asked, made, report)


def _report(asked: _Asked) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "edgepipe": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": sys.argv,
        "status": "done",
        "error": None,
        "sources": [
            {"path": str(path), "sha256": digest_file(path), "size": path.stat().st_size}
            for path in asked.models
        ],
        "options": asked.options.key(),
        "gates": vars(asked.gates),
        "device": asked.device or None,
        "compiled": False,
        "outputs": [],
    }


def _proofs(asked: _Asked, made: Compilation) -> list[dict[str, Any]]:
    """One a model; segments need as many devices, and are looked at only."""
    if asked.options.num_segments > 1:
        return [device_run.NOT_RUN]
    return [
        device_run.prove(source, piece.path, asked.device) if asked.device else device_run.NOT_RUN
        for source, piece in zip(asked.models, made.pieces, strict=True)
    ]


def _check(gates: Gates, made: Compilation) -> None:
    worse = []
    for piece in made.pieces:
        try:
            piece.facts.check(
                gates.max_streamed_bytes,
                gates.require_full_mapping,
                gates.runtime_version,
                piece.path.name,
            )
        except LimitError as error:
            worse.append(error)
    if worse:
        words = "; ".join(error.message for error in worse)
        raise LimitError(words, hint=worse[0].hint)


def _tell(asked: _Asked, report: dict[str, Any], error: EdgepipeError, log: Path) -> None:
    """The report of what came to nothing, with the compiler's words; the first error stays."""
    report["status"] = "incomplete" if isinstance(error, ToolMissing) else "failed"
    report["error"] = {**error.to_json(), "details": {}}
    if "diagnosis" in error.details:
        report["error"]["details"] = {"diagnosis": error.details["diagnosis"]}
    try:
        _clear(asked.folder)
        report["outputs"] = [LOG] if log.is_file() else []
        error.details["report"] = str(delivery.write_report(asked.folder, _plain(report)))
        if log.is_file():
            delivery.copy_file(log, asked.folder / LOG)
            error.details["log"] = str(asked.folder / LOG)
    except (EdgepipeError, OSError):
        error.details.pop("log", None)
    if isinstance(error, ToolMissing):
        mapped = sum(one["mapped"] for one in report["foretold"].values())
        total = mapped + sum(one["cpu"] for one in report["foretold"].values())
        error.message += f"; foretold is that {mapped} of {total} ops would be mapped"


def _deliver(asked: _Asked, made: Compilation, report: dict[str, Any]) -> Compiled:
    folder = asked.folder
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    files = []
    for piece in made.pieces:
        cut = asked.options.num_segments > 1
        for file in (piece.source if cut else None, piece.log_file, piece.path):
            if file is not None:
                delivery.copy_file(file, folder / file.name)
                report["outputs"].append(file.name)
        files.append(folder / piece.path.name)
    made.write_log(made.log.with_name("kept.log"))
    delivery.copy_file(made.log.with_name("kept.log"), folder / LOG)
    report["outputs"].append(LOG)
    plain = _plain(report)
    return Compiled(folder, tuple(files), plain, delivery.write_report(folder, plain))


def _clear(folder: Path) -> None:
    """Take away what an earlier run wrote: beside a new report it would pass for this one's."""
    try:
        earlier = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        names = [str(name) for name in earlier["outputs"] if isinstance(name, str)]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in names:
        ours = name == LOG or name.endswith(("_edgetpu.tflite", "_edgetpu.log"))
        if Path(name).name == name and (ours or "_segment_" in name):
            (folder / name).unlink(missing_ok=True)


def _plain(report: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(report, allow_nan=False))
    return plain
