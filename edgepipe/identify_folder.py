"""Folders that are models, and for all others what is in them and what would be one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgepipe import identify_openvino
from edgepipe.artifact import Format
from edgepipe.errors import EdgepipeError, ModelNotFound
from edgepipe.identify_sample import damaged, listing, unknown, unsupported

EXPECTED = "a model file, or a SavedModel folder (with saved_model.pb in it)"
KERAS_PARTS = ("config.json", "metadata.json")
LFS = b"version https://git-lfs"
MOST_LOOKED_AT = 40
SKIPPED = (".json", ".txt", ".md", ".py", ".csv", ".png", ".jpg", ".index", ".yaml", ".log")

Identify = Callable[[Path], Format]


def recognise(folder: Path, identify: Identify) -> Format:
    """`identify` tells of the files in it which are models, for the hint."""
    if (folder / "saved_model.pb").is_file():
        _check_saved_model(folder)
        return Format.SAVED_MODEL
    if (folder / "saved_model.pbtxt").is_file():
        return Format.SAVED_MODEL
    # Keras 3 writes a folder with the parts of a .keras when asked for `zipped=False`.
    if all((folder / part).is_file() for part in KERAS_PARTS):
        if not any(folder.glob("model.weights.*")):
            raise damaged(folder, "a Keras 3 folder", "it has no model.weights.h5")
        return Format.KERAS
    format = identify_openvino.recognise(folder)
    if format is not None:
        return format
    raise _refusal(folder, identify)


def _check_saved_model(folder: Path) -> None:
    graph = folder / "saved_model.pb"
    shards = list((folder / "variables").glob("variables.data-*"))
    index = folder / "variables" / "variables.index"
    for file in (graph, index, *shards):
        if file.is_file() and _begins(file, LFS):
            raise unknown(
                folder,
                f"a SavedModel whose {file.name} is only a Git LFS pointer",
                "run `git lfs pull` in that repository.",
            )
    # SavedModel { schema_version = 1 (a number), meta_graphs = 2 (bytes) }
    if not _begins(graph, b"\x08\x01\x12"):
        raise damaged(folder, "a SavedModel", "its saved_model.pb has no graph")
    if index.is_file() and not shards:
        raise damaged(folder, "a SavedModel", "variables/variables.data-... is missing")


def _begins(file: Path, start: bytes) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(start)) == start


def _refusal(folder: Path, identify: Identify) -> EdgepipeError:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    if "checkpoint" in names or any(name.endswith(".ckpt.index") for name in names):
        return unsupported(
            folder,
            "a TensorFlow checkpoint: weights without a model",
            "rebuild the model in Python, load the checkpoint into it, and save it whole with "
            "`model.save('model.keras')` or `model.export('folder')`.",
        )
    models = _models(folder, identify)
    if len(models) == 1:
        hint = f"did you mean {models[0]}?"
    elif models:
        hint = f"there are several: {listing([str(model) for model in models])}."
    else:
        hint = f"give {EXPECTED}."
    return ModelNotFound(
        f"{folder} holds no model itself: expected {EXPECTED}, "
        f"found {listing(names) or 'an empty folder'}",
        hint=hint,
        path=str(folder),
    )


def _models(folder: Path, identify: Identify) -> list[Path]:
    """Model files in the folder, and SavedModels one folder down (as TF Serving has them)."""
    found = []
    candidates = [path for path in sorted(folder.iterdir()) if _worth_a_look(path)]
    for path in candidates[:MOST_LOOKED_AT]:
        try:
            identify(path)
        except EdgepipeError:
            continue
        found.append(path)
    return found


def _worth_a_look(path: Path) -> bool:
    if path.is_dir():
        return (path / "saved_model.pb").is_file()
    return path.is_file() and path.suffix.lower() not in SKIPPED
