"""A Python function of the user as samples: it yields dictionaries, or pairs with a label."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.code_digest import code_digest
from edgepipe.data import fitting
from edgepipe.data.labels import Labels
from edgepipe.data.reader import Reader, Sample, Unreadable
from edgepipe.errors import SamplesError, UserCodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 100_000
"""Samples of a function without --limit; one that never ends is met here."""


class FunctionReader(Reader):
    """The function runs once to count, and once for each reading; a limit takes its first ones."""

    toolchain: ClassVar[str] = "edge"

    def count(self) -> int:
        return len(self._walked)

    @functools.cached_property
    def _walked(self) -> list[int | None]:
        """The label of each sample."""
        limit = self.source.limit
        walk = itertools.islice(self._yielded(), limit or MOST + 1)
        labels = [label for _, label in walk]
        if len(labels) > (limit or MOST):
            raise SamplesError(
                f"{self.source.where} yields more than {MOST:,} samples",
                hint="say how many to take: --limit N.",
            )
        return labels

    def labels(self) -> Sequence[int | None] | None:
        found = Labels(tuple(self._walked)).numbers
        without = sum(label is None for label in found)
        if 0 < without < len(found):
            raise SamplesError(
                f"{self.source.where}: {without} of {len(found)} samples have no label",
                hint="yield (dictionary, label) for every sample, or for none.",
            )
        return None if without else found

    def _yielded(self) -> Iterator[tuple[Any, int | None]]:
        from edgepipe.runners.user_code import import_user_module, told

        where, path = self.source.where, self.source.python_path
        module_name, _, name = where.partition(":")
        module = import_user_module(module_name, path)
        function = getattr(module, name, None)
        if not callable(function):
            raise UserCodeError(
                f"{module_name} has no function {name!r}",
                hint="name one that yields dictionaries of arrays by input name.",
            )
        try:
            for number, item in enumerate(function()):
                yield self._parted(item, number)
        except SamplesError:
            raise
        except (Exception, SystemExit) as error:
            raise told(error, f"{where} failed", path) from error

    def _parted(self, item: Any, number: int) -> tuple[Any, int | None]:
        """The dictionary of a sample, and its label."""
        feeds, label = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        if not isinstance(feeds, dict):
            raise SamplesError(
                f"{self.source.where} yields {type(item).__name__} as sample {number}, expected a"
                " dictionary",
                hint="yield {input name: array}, or such a dictionary and a label.",
            )
        if label is None:
            return feeds, None
        try:
            return feeds, int(label)
        except (TypeError, ValueError) as error:
            raise SamplesError(
                f"{self.source.where}: the label of sample {number} is {label!r}, expected a"
                " whole number"
            ) from error

    def read(self, indices: Sequence[int]) -> Iterator[Sample | Unreadable]:
        wanted = iter(indices)
        index = next(wanted, None)
        for number, (feeds, label) in enumerate(self._yielded()):
            if number == index:
                yield Sample(self._fitted(feeds, number), label, f"sample {number}")
                index = next(wanted, None)  # The list may have grown meanwhile.
            if index is None:
                return
        raise SamplesError(
            f"{self.source.where} yielded {self.count()} samples at first and fewer later",
            hint="it must yield the same samples each time it is called.",
        )

    def _fitted(self, feeds: dict[str, Any], number: int) -> dict[str, NDArray[Any]]:
        import numpy as np

        expected = [port.name for port in self.signature.inputs]
        if set(feeds) != set(expected):
            raise SamplesError(
                f"{self.source.where}, sample {number}: received {sorted(map(str, feeds))},"
                f" the model's inputs are {expected}"
            )
        where = f"{self.source.where}, sample {number}"
        return {
            port.name: fitting.fit(
                np.asarray(feeds[port.name]),
                port,
                self.source.preprocessing.of(port.name),
                where,
            )
            for port in self.signature.inputs
        }

    def digest(self, chosen: Callable[[], Sequence[int]]) -> str:
        """Of the code. What it reads can't be seen without running it."""
        return code_digest([self.source.where], self.source.python_path)
