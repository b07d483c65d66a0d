"""The user's folder: checked before any work, then given the models and the report, each whole."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepipe import catalog, onnx_file, pipeline
from edgepipe.artifact import IR, Artifact, Format, files_below, same_bytes, size_of
from edgepipe.errors import DiskFull, EdgepipeError, PathError
from edgepipe.identify_openvino import files_of
from edgepipe.pipeline import Candidate
from edgepipe.report.document import Written
from edgepipe.session import Session
from edgepipe.store import Store

RECIPE = "recipe.toml"
MANIFEST = "manifest.json"
PAGE = "report.html"
COMPILE_LOG = "model_edgetpu.log"
log = logging.getLogger(__name__)
KEYS = {"recipe": RECIPE, "compile_log": COMPILE_LOG}
"""Where the report says that they are there."""
VALIDATION = "validation.json"
COPIES = 6
"""Times the model's size that a run was seen to need on disk, with its intermediate files."""
HEADROOM = 64 << 20


def check_folder(folder: Path) -> None:
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


def check_disk(store: Store, source: Artifact, folder: Path) -> None:
    size = model_size(source)
    store.require(size * COPIES + HEADROOM)
    there = next(
        parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists()
    )
    free = shutil.disk_usage(there).free
    if free < size * 2 + HEADROOM:
        raise DiskFull(
            f"{there} has {free:,} bytes free, the results need about {size * 2 + HEADROOM:,}",
            hint="make room, or name a folder on another disk with -o.",
        )


def model_size(source: Artifact) -> int:
    """Bytes of everything that belongs to a model."""
    if source.format in IR:
        return sum(map(size_of, files_of(source.path)))
    size = size_of(source.path)
    if source.format is Format.ONNX:
        size += sum(file.stat().st_size for file in onnx_file.external_files(source.path))
    if source.loading.weights:
        size += Path(source.loading.weights).stat().st_size
    return size


def write_models(folder: Path, artifacts: Sequence[Artifact], precision: str) -> list[Written]:
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, artifact in pipeline.worth_keeping(artifacts, precision).items():
            _copy_model(artifact, folder / name)
            written.append(Written(folder / name, artifact, size_of(folder / name)))
        clear_earlier(folder, {item.path.name for item in written})
        _clear_validation(folder, {item.artifact.digest for item in written})
        for name, file in beside(artifacts).items():
            copy_file(file, folder / name)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return written


def beside(artifacts: Sequence[Artifact]) -> dict[str, Path]:
    """What stages left beside what they made: the recipe, the compiler's words; the last of each.

    The first artifact is the user's own, in a folder where a file of that name is another's.
    """
    return {
        name: artifact.path.with_name(name)
        for artifact in artifacts[1:]
        for name in KEYS.values()
        if artifact.path.with_name(name).is_file()
    }


def write_c(session: Session, chosen: Candidate, model: Path) -> list[str]:
    """The model as C beside it; the names of what was written."""
    from edgepipe import firmware

    try:
        files = firmware.write(session, chosen, model)
        for file in files:
            copy_file(file, model.with_name(file.name))
        return [file.name for file in files]
    except OSError as error:
        raise _unwritable(model.parent, error) from error


def clear_earlier(folder: Path, kept: set[str]) -> None:
    """Take away what an earlier run wrote: beside a new report it would pass for this run."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in _of_earlier_run(folder) - kept:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _clear_validation(folder: Path, digests: set[str]) -> None:
    """What `validate` said of another model here; of the same one it still holds."""
    path = folder / VALIDATION
    try:
        candidate = json.loads(path.read_text(encoding="utf-8"))["candidate"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if candidate not in digests:
        path.unlink(missing_ok=True)


def _of_earlier_run(folder: Path) -> set[str]:
    """What the report that is there says was written."""
    precisions = {name for goal in catalog.TARGETS.values() for name in goal.precisions}
    quantized = {name for one in precisions for name in pipeline.quantized_names(one).values()}
    known = {*pipeline.DELIVERED.values(), *quantized, RECIPE, COMPILE_LOG}
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        beside = {str(report[name]) for name in KEYS if report.get(name)}
        beside |= {str(name) for name in report.get("emitted", ())}
        known |= {Path(name).with_suffix(end).name for name in known for end in (".c", ".h")}
        return ({str(item["path"]) for item in report["outputs"]} | beside) & known
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _copy_model(artifact: Artifact, target: Path) -> None:
    """Aside, then renamed: a killed run leaves the old file or the new one."""
    if artifact.format in IR:
        target.mkdir(exist_ok=True)
        for file in files_of(artifact.path):
            copy_file(file, target / file.name)
        return
    if artifact.path.is_dir():
        target.mkdir(exist_ok=True)
        for file in files_below(artifact.path):
            copy_file(file, target / file.name)
        return
    alone = len(list(artifact.path.parent.iterdir())) == 1
    if artifact.format is Format.ONNX and not alone:
        for file in onnx_file.external_files(artifact.path):
            copy_file(file, target.parent / file.name)
    copy_file(artifact.path, target)


def copy_file(source: Path, target: Path) -> None:
    if _is_copy(source, target):
        return  # Writing 14 MB again took a fifth of a run that had everything else kept.
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _is_copy(source: Path, target: Path) -> bool:
    return target.is_file() and same_bytes(source, target)


def write_report(folder: Path, report: dict[str, Any]) -> Path:
    path = write_text(folder / "report.json", json.dumps(report, indent=2) + "\n")
    write_page(path, report)
    return path


def write_text(path: Path, text: str) -> Path:
    """Aside, then renamed; its folder is made where there is none."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise _unwritable(path.parent, error) from error
    return path


def write_page(path: Path, report: dict[str, Any]) -> None:
    """`report.html`. No result is lost over a page, which can be made again of the JSON."""
    from edgepipe.report.html import page

    path.with_name(PAGE).unlink(missing_ok=True)  # An earlier run's, which would pass for this.
    try:
        page.write_beside(path, report)
    except Exception:
        log.exception("no %s beside %s: this is a bug of edgepipe", PAGE, path)


def page_again(folder: Path) -> None:
    """After something was put beside the report of an earlier run; nothing where there is none."""
    path = folder / "report.json"
    with contextlib.suppress(OSError, ValueError):
        write_page(path, json.loads(path.read_text(encoding="utf-8")))


def _unwritable(folder: Path, error: OSError) -> EdgepipeError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{folder}: no space left on its disk", hint="make room and run it again.")
    return PathError(
        f"{folder} can't be written: {error.strerror}", hint="name another folder with -o FOLDER."
    )
