"""What kind of data a place holds, told by what is there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgepipe import catalog
from edgepipe.artifact import files_below
from edgepipe.errors import SamplesError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SOUNDS = (".wav", ".wave")
ARRAYS = (".npy", ".npz")
TABLES = (".csv", ".tsv")
KINDS = (
    "a .npz or .npy file, a .csv file, an image, a folder of images, .wav or .npy files,"
    " module:function, or random"
)


def kind_of(where: str) -> str:
    """The dotted name of the reader of a place."""
    if where == "random":
        return catalog.READERS["random"]
    path = Path(where)
    if path.is_dir():
        return catalog.READERS[_of_folder(path)]
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix in TABLES:
            return catalog.READERS["table"]
        return catalog.READERS[
            "images" if suffix in IMAGES else "sounds" if suffix in SOUNDS else "array"
        ]
    if names_function(where):
        return catalog.READERS["function"]
    raise SamplesError(f"no samples at {where}", hint=f"give {KINDS}.")


def names_function(where: str) -> bool:
    module, colon, name = where.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), name])


def _of_folder(folder: Path) -> str:
    """By the files in it; one kind alone, because a guess would leave the others out."""
    suffixes = {"images": IMAGES, "sounds": SOUNDS, "arrays": ARRAYS}
    found = Counter(
        kind
        for path in files_below(folder)
        for kind, known in suffixes.items()
        if path.suffix.lower() in known and not path.name.startswith(".")
    )
    if not found:
        raise SamplesError(
            f"no samples at {folder}: the folder holds no image, .wav, .npy or .npz file",
            hint=f"give {KINDS}.",
        )
    if len(found) > 1:
        held = ", ".join(f"{count} {kind}" for kind, count in found.most_common())
        raise SamplesError(
            f"{folder} holds several kinds of samples: {held}",
            hint="give the folder that holds only one kind.",
        )
    return next(iter(found))
