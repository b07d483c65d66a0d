"""Reads what is true of each sample, by its name or its place in the data, and writes it down."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Signature, files_below
from edgepipe.data import arrays
from edgepipe.dataset import Dataset, DataSource
from edgepipe.errors import SamplesError, UserCodeError
from edgepipe.validation import truth
from edgepipe.validation.truth import TruthSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

Lookup = Callable[[int, str], "NDArray[Any]"]
"""The truth of the sample at this place of the data, and of this name."""
ARRAYS = ("truth", "target", "targets", "mask", "masks", "label", "labels", "y")
MASKS = (".png", ".npy", ".bmp", ".gif", ".tif", ".tiff")


def write(
    data: dict[str, Any], ends: dict[str, Any], source: dict[str, Any], folder: str
) -> dict[str, Any]:
    """The truth of the whole data set, in its order."""
    dataset = DataSource.from_json(data).open(Signature.from_json(ends))
    origin = TruthSource.from_json(source)
    names = dataset.names
    at = _lookup(origin, dataset)

    def each() -> Iterator[NDArray[Any]]:
        for index in dataset.indices:
            yield at(index, names[index] if names else "")

    found = truth.write(Path(folder), each())
    if origin.annotations:
        found["kinds"] = ["boxes"]
    return {**found, "count": len(dataset), "annotations": origin.annotations}


def _lookup(origin: TruthSource, dataset: Dataset) -> Lookup:
    if origin.is_function:
        return _of_function(origin)
    path = Path(origin.where)
    if path.is_dir():
        return _of_masks(path, dataset)
    if not path.is_file():
        return _of_rows(_column(dataset.source.where, origin.where), origin.where, dataset)
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _of_annotations(path, dataset)
    if suffix in (".csv", ".tsv"):
        return _of_table(path, dataset)
    if suffix in (".npy", ".npz"):
        return _of_rows(_array(path), str(path), dataset)
    raise SamplesError(
        f"{path} can't say what is true: its kind is not known",
        hint="give a .npy, .npz or .csv file, a folder of masks, COCO's .json, or module:function.",
    )


def _of_rows(array: NDArray[Any], where: str, dataset: Dataset) -> Lookup:
    if len(array) != dataset.available:
        raise SamplesError(
            f"{where} holds the truth of {len(array)} samples, the data has {dataset.available}",
            hint="its first axis must be as long, in the same order.",
        )
    return lambda index, name: array[index]


def _array(path: Path, wanted: str = "") -> NDArray[Any]:
    found = arrays.members(path)
    names = [name for name in ((wanted,) if wanted else ARRAYS) if name in found]
    if not wanted and len(found) == 1:
        names = list(found)
    if not names:
        known = ", ".join(map(repr, found))
        raise SamplesError(
            f"{path} has no array {wanted!r}" if wanted
            else f"{path} holds {len(found)} arrays, and none is named as a truth is",
            hint=f"its arrays are {known}; name one of them {ARRAYS[0]!r}." if not wanted
            else f"its arrays are {known}.",
        )  # fmt: skip
    return found[names[0]].whole()


def _column(where: str, name: str) -> NDArray[Any]:
    """Of the data itself."""
    path = Path(where)
    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy"):
        return _array(path, name)
    if suffix not in (".csv", ".tsv"):
        raise SamplesError(
            f"no truth at {name}: there is no such file, and {where} has no columns or arrays",
            hint="give a file or folder, or module:function.",
        )
    rows = _rows(path)
    columns = [part.strip() for part in name.split(",")]
    absent = [column for column in columns if not rows or column not in rows[0]]
    if absent:
        known = ", ".join(rows[0]) if rows else "none"
        raise SamplesError(f"{path} has no column {absent[0]!r}", hint=f"its columns are: {known}.")
    places = [rows[0].index(column) for column in columns]
    return _numbers([[row[place] for place in places] for row in rows[1:]], path)


def _rows(path: Path) -> list[list[str]]:
    comma = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [[cell.strip() for cell in row] for row in csv.reader(file, delimiter=comma)
                    if row]  # fmt: skip
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SamplesError(f"the truth can't be read from {path}: {error}") from error


def _numbers(cells: Sequence[Sequence[str]], path: Path) -> NDArray[Any]:
    import numpy as np

    try:
        array = np.array([[float(cell) for cell in row] for row in cells])
    except ValueError as error:
        raise SamplesError(
            f"{path}: {error}", hint="the truth is numbers, as many for every sample."
        ) from error
    whole = array.size and not (array % 1).any() and all("." not in c for r in cells for c in r)
    return array.astype(np.int64) if whole else array


def _of_table(path: Path, dataset: Dataset) -> Lookup:
    """Lines of name and numbers where samples have names, else lines of numbers in their order."""
    rows = _rows(path)
    if rows and not _is_number(rows[0][-1]):
        del rows[0]
    if not dataset.names:
        return _of_rows(_numbers(rows, path), str(path), dataset)
    array = _numbers([row[1:] for row in rows], path)
    return _by_name({row[0]: array[place] for place, row in enumerate(rows)}, path, dataset)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _by_name(found: Mapping[str, Any], where: Path, dataset: Dataset) -> Lookup:
    """By the path below the folder, the file's name, or that without its suffix."""
    keys = {}
    for index in dataset.indices:
        name = dataset.names[index]
        short = name.rpartition("/")[2]
        kinds = (name, name.rpartition(".")[0], short, short.rpartition(".")[0])
        keys[name] = next((key for key in kinds if key and key in found), None)
    without = [name for name, key in keys.items() if key is None]
    if without:
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        raise SamplesError(
            f"{where} says nothing of {len(without)} of {len(keys)} samples:"
            f" {', '.join(map(repr, without[:3]))}{more}",
            hint=f"it holds {len(found)}, for instance {next(iter(found), None)!r}; their names"
            " must be those of the samples.",
            missing=without,
        )
    return lambda index, name: found[keys[name] or ""]


def _of_masks(folder: Path, dataset: Dataset) -> Lookup:
    files: dict[str, Path] = {}
    for path in files_below(folder):
        if path.suffix.lower() in MASKS:
            name = path.relative_to(folder).as_posix()
            files[name] = files[name.rpartition(".")[0]] = path
    if not files:
        raise SamplesError(f"{folder} holds no masks", hint=f"give files of {', '.join(MASKS)}.")
    if not dataset.names:
        raise SamplesError(
            f"{dataset.source.where} has no file names that masks could be matched by",
            hint="give the masks as one array with --truth FILE.npy, in the samples' order.",
        )
    found = _by_name(files, folder, dataset)

    def read(index: int, name: str) -> NDArray[Any]:
        path: Any = found(index, name)
        return _mask(path)

    return read


def _mask(path: Path) -> NDArray[Any]:
    """Grey or palette: the numbers as they are in the file. Colours name no class."""
    import numpy as np

    if path.suffix.lower() == ".npy":
        return arrays.members(path)[""].whole()
    from importlib import import_module

    try:
        with import_module("PIL.Image").open(path) as picture:
            mode, array = picture.mode, np.asarray(picture)
    except Exception as error:  # Pillow's decoders raise whatever their formats bring up.
        raise SamplesError(f"the mask {path} can't be read: {error}") from error
    if array.ndim != 2:
        raise SamplesError(
            f"the mask {path} is of colours ({mode}), expected one number a pixel",
            hint="save masks as grey or palette images whose numbers are the classes.",
        )
    return array.astype(np.uint8) if array.dtype == bool else array


def _of_annotations(path: Path, dataset: Dataset) -> Lookup:
    """Of COCO's images only their numbers and sizes; the boxes are read where they are judged."""
    import numpy as np

    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        rows = {
            str(image["file_name"]): np.array([image["id"], image["width"], image["height"]])
            for image in images
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SamplesError(
            f"{path} can't be read as COCO's annotations: {error}",
            hint="it needs images with id, file_name, width and height.",
        ) from error
    if not dataset.names:
        return _of_rows(np.stack(list(rows.values())), str(path), dataset)
    return _by_name(rows, path, dataset)


def _of_function(origin: TruthSource) -> Lookup:
    """Called with the sample's name and its place in the data."""
    import numpy as np

    from edgepipe.runners.user_code import told, users_function

    function = users_function(origin.where, origin.python_path)

    def call(index: int, name: str) -> NDArray[Any]:
        try:
            found = np.asarray(function(name, index))
        except (Exception, SystemExit) as error:
            what = f"{origin.where}({name!r}, {index}) failed"
            raise told(error, what, origin.python_path) from error
        if found.dtype.kind not in "iubf":
            raise UserCodeError(
                f"{origin.where}({name!r}, {index}) gave {found.dtype}, expected numbers"
            )
        return found

    return call
