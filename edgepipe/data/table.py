"""CSV files as samples: one row each, numeric columns for inputs, a column of labels."""

from __future__ import annotations

import csv
import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Port, digest_file
from edgepipe.data import fitting
from edgepipe.data.labels import Labels, names_of, numbered
from edgepipe.data.reader import Reader, Sample, Unreadable
from edgepipe.errors import SamplesError
from edgepipe.inputs import shape_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = ("label", "labels", "class", "target", "y")


class TableReader(Reader):
    """Of one input, all columns but the label's, in order; of several, those that bear a name.

    The input `x` of three numbers takes columns `x_0`, `x_1`, `x_2`, also written `x.0` or `x[0]`.
    """

    @functools.cached_property
    def _path(self) -> Path:
        return Path(self.source.where)

    @functools.cached_property
    def _header(self) -> list[str]:
        """Names of the columns; their numbers, where the first row is one of numbers."""
        first = next(self._rows(headed=True), None)
        if first is None:
            raise SamplesError(f"{self._path} holds no sample", hint="write one row for each.")
        names = [cell.strip() for cell in first]
        if all(map(_is_number, names)):
            return [str(place) for place in range(len(names))]
        if len(set(names)) != len(names):
            raise SamplesError(f"{self._path}: two columns have the same name: {names}")
        return names

    @functools.cached_property
    def _headed(self) -> bool:
        first = next(self._rows(headed=True))
        return not all(map(_is_number, first))

    def _rows(self, headed: bool = False) -> Iterator[list[str]]:
        """All rows, or all but the heading."""
        comma = "\t" if self._path.suffix.lower() == ".tsv" else ","
        try:
            with self._path.open(newline="", encoding="utf-8-sig") as file:
                rows = (row for row in csv.reader(file, delimiter=comma) if row)
                if not headed and self._headed:
                    next(rows)
                yield from rows
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise SamplesError(f"{self._path} can't be read as samples: {error}") from error

    @functools.cached_property
    def _label_column(self) -> int | None:
        wanted = self.source.labels
        if wanted and not Path(wanted).is_file():
            return self._place(wanted, "labels")
        inputs = {port.name for port in self.signature.inputs}
        names = [name.lower() for name in self._header]
        found = [names.index(name) for name in LABELS if name in names and name not in inputs]
        found = [place for place in found if place not in self._apart]
        return found[0] if found and not self.source.columns else None

    def _place(self, name: str, what: str) -> int:
        if name not in self._header:
            raise SamplesError(
                f"{self._path} has no column {name!r} for the {what}",
                hint=f"its columns are: {', '.join(self._header[:20])}.",
            )
        return self._header.index(name)

    @functools.cached_property
    def _apart(self) -> list[int]:
        return [self._place(name, "truth") for name in self.source.apart]

    @functools.cached_property
    def _columns(self) -> dict[str, list[int]]:
        """The places of each input's numbers."""
        ports = self.signature.inputs
        if self.source.columns or len(ports) == 1:
            named = [self._place(name, "samples") for name in self.source.columns]
            left_out = {self._label_column, *self._apart}
            every = [n for n in range(len(self._header)) if n not in left_out]
            return self._shared(ports, named or every)
        return {port.name: self._of_input(port) for port in ports}

    def _shared(self, ports: Sequence[Port], places: Sequence[int]) -> dict[str, list[int]]:
        sizes = [math.prod(fitting.shape_of(port)) for port in ports]
        if sum(sizes) != len(places):
            wanted = ", ".join(
                f"{port.name!r} ({shape_words(fitting.shape_of(port))}) takes {size}"
                for port, size in zip(ports, sizes, strict=True)
            )
            raise SamplesError(
                f"{self._path} has {len(places)} columns for samples; {wanted}",
                hint="name the ones to take with --columns a,b,c and the label's with --labels.",
            )
        remaining = iter(places)
        return {
            port.name: [next(remaining) for _ in range(size)]
            for port, size in zip(ports, sizes, strict=True)
        }

    def _of_input(self, port: Port) -> list[int]:
        form = re.compile(rf"{re.escape(port.name)}(?:[._\[](\d+)\]?)?")
        matches = [(form.fullmatch(name), place) for place, name in enumerate(self._header)]
        found = sorted((int(match[1] or 0), place) for match, place in matches if match)
        size = math.prod(fitting.shape_of(port))
        if len(found) != size:
            raise SamplesError(
                f"{self._path} has {len(found)} columns for the input {port.name!r}, which takes"
                f" {size}",
                hint=f"name them {port.name}_0, {port.name}_1 and so on, or list those of all"
                " inputs in order with --columns.",
            )
        return [place for _, place in found]

    def count(self) -> int:
        return len(self._label_texts)

    @functools.cached_property
    def _label_texts(self) -> list[str]:
        """Of every row, '' where there are none: all that is held of the file."""
        column, width = self._label_column, len(self._header)
        texts = []
        for number, row in enumerate(self._rows(), 1):
            if len(row) != width:
                raise SamplesError(
                    f"{self._path}, row {number}: {len(row)} cells, expected {width}",
                    hint="every row has as many cells as the first.",
                )
            texts.append("" if column is None else row[column].strip())
        return texts

    @functools.cached_property
    def _labels(self) -> Labels:
        names = names_of(self.source.labels, self._label_column is not None, self._path)
        if self._label_column is None:
            return Labels(())
        texts = self._label_texts
        if "" in texts:
            raise SamplesError(
                f"{self._path}: {texts.count('')} of {len(texts)} rows have no label,"
                f" the first is row {texts.index('') + 1}"
            )
        return numbered(texts, names, str(self._path))

    def labels(self) -> Sequence[int | None] | None:
        return self._labels.numbers or None

    def label_names(self) -> Sequence[str]:
        return self._labels.names

    def read(self, indices: Sequence[int]) -> Iterator[Sample | Unreadable]:
        labels = self.labels()
        wanted = iter(indices)
        index = next(wanted, None)
        for number, row in enumerate(self._rows()):
            if number != index:
                continue
            feeds = {port.name: self._feed(row, number, port) for port in self.signature.inputs}
            yield Sample(feeds, labels[number] if labels else None, f"row {number + 1}")
            index = next(wanted, None)
            if index is None:
                return

    def _feed(self, row: Sequence[str], number: int, port: Port) -> NDArray[Any]:
        import numpy as np

        where = f"{self._path}, row {number + 1}"
        values = []
        for place in self._columns[port.name]:
            if not _is_number(row[place]):
                raise SamplesError(
                    f"{where}: {self._header[place]!r} is {row[place]!r}, expected a number",
                    hint="leave such columns out with --columns, the label's with --labels.",
                )
            values.append(float(row[place]))
        array = np.array(values)
        if np.dtype(port.dtype).kind in "iu" and (array == np.rint(array)).all():
            array = array.astype(np.int64)
        steps = self.source.preprocessing.of(port.name)
        return fitting.fit(array.reshape(fitting.shape_of(port)), port, steps, where)

    def digest(self, chosen: Callable[[], Sequence[int]]) -> str:
        chosen()  # Says now what is wrong with the file.
        assert self._columns is not None
        return digest_file(self._path)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
