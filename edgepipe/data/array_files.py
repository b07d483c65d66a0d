"""A folder of .npy files, each of them one sample of an input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.artifact import Port
from edgepipe.data import fitting
from edgepipe.data.arrays import UNREADABLE, members
from edgepipe.data.files import FilesReader
from edgepipe.errors import SamplesError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ArrayFilesReader(FilesReader):
    """The .npz files among them hold one array each."""

    suffixes = (".npy", ".npz")
    unreadable: ClassVar[tuple[type[Exception], ...]] = UNREADABLE

    def load(self, path: Path, port: Port) -> NDArray[Any]:
        try:
            found = members(path)
        except SamplesError as error:
            raise ValueError(error.message) from error
        if len(found) != 1 and port.name not in found:
            raise SamplesError(
                f"{path} holds {len(found)} arrays, none of them named {port.name!r}",
                hint="save one array in each file of a folder.",
            )
        member = found.get(port.name) or next(iter(found.values()))
        steps = self.source.preprocessing.of(port.name)
        return fitting.fit(member.whole(), port, steps, str(path))
