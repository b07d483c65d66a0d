"""What `edgetpu_compiler` puts into a model: a package of executables, read field by field.

The fields are those of google-coral/libedgetpu, executable/executable.fbs (Apache-2.0).
"""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from edgepipe.errors import UnknownFormat
from edgepipe.targets.edgetpu import flexbuffer
from edgepipe.tflite.flatbuffer import Reader, Table

IDENTIFIER = b"DWN1"

_TYPES = {
    0: "uint8", 1: "uint16", 2: "int32", 3: "bfloat16", 4: "float16", 5: "float32",
    8: "int8", 9: "int16",
}  # fmt: skip


class Kind(IntEnum):
    """What an executable is for."""

    STAND_ALONE = 0
    PARAMETER_CACHING = 1
    EXECUTION_ONLY = 2

    @property
    def words(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True)
class Layer:
    """An end of an executable. Sizes are y, x, z; `bytes` is with the hardware's padding."""

    name: str
    sizes: tuple[int, int, int]
    bytes: int
    dtype: str
    scale: float
    zero_point: int
    executions: int


@dataclass(frozen=True)
class Executable:
    kind: Kind
    name: str
    chip: str
    batch: int
    parameter_bytes: int
    scratch_bytes: int
    instruction_bytes: int
    activation_bytes_per_tile: int
    estimated_cycles: int
    caching_token: int
    inputs: tuple[Layer, ...]
    outputs: tuple[Layer, ...]


@dataclass(frozen=True)
class Package:
    """`chips` counts the packages inside where it was compiled for several."""

    runtime_version: int
    compiler_version: str
    model_identifier: str
    chips: int
    executables: tuple[Executable, ...]

    @property
    def cached_bytes(self) -> int:
        """Parameters that stay on the chip."""
        return sum(e.parameter_bytes for e in self.executables if e.kind is Kind.PARAMETER_CACHING)

    @property
    def streamed_bytes(self) -> int:
        """Parameters that are sent at every inference."""
        return sum(
            e.parameter_bytes for e in self.executables if e.kind is not Kind.PARAMETER_CACHING
        )

    @property
    def tokens(self) -> tuple[int, ...]:
        """Equal in models that were compiled together."""
        found = {e.caching_token for e in self.executables if e.caching_token}
        return tuple(sorted(found))

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        for entry, executable in zip(data["executables"], self.executables, strict=True):
            entry["kind"] = executable.kind.words
        return {
            **data,
            "cached_bytes": self.cached_bytes,
            "streamed_bytes": self.streamed_bytes,
            "caching_tokens": [f"{token:016x}" for token in self.tokens],
        }


def of_operator(custom_options: bytes) -> list[Package]:
    """The packages in the options of one compiled operator."""
    try:
        options = flexbuffer.read(custom_options)
        if not isinstance(options, dict):
            raise UnknownFormat("a map was expected in the options of the compiled operator")
        first, more = options.get("4"), options.get("7") or []
        found = [first, *(more if isinstance(more, list) else [more])]
        packages = [parse(one) for one in found if isinstance(one, bytes) and one]
    except (struct.error, UnicodeError, ValueError, OverflowError) as error:
        raise UnknownFormat(f"damaged: {error}") from error
    if not packages:
        raise UnknownFormat("no package under key '4' of the compiled operator")
    return packages


def parse(data: bytes) -> Package:
    """One package; one for several chips gives the executables of all of them."""
    if len(data) < 16 or data[4:8] != IDENTIFIER:
        raise UnknownFormat(f"{IDENTIFIER!r} expected at byte 4, received {data[4:8]!r}")
    root = Reader(data).root()
    parts = [_bytes(part, 0) for part in root.tables(6)]
    if any(part[4:8] == IDENTIFIER and Reader(part).root().tables(6) for part in parts):
        raise UnknownFormat("damaged: a package for several chips inside another one")
    inner = [parse(part) for part in parts]
    executables = [one for package in inner for one in package.executables]
    return Package(
        runtime_version=max([root.number(0, "i"), *(one.runtime_version for one in inner)]),
        compiler_version=root.text(4),
        model_identifier=root.text(7),
        chips=max(1, len(inner)),
        executables=(*executables, *_executables(_bytes(root, 1))),
    )


def _executables(data: bytes) -> list[Executable]:
    if not data:
        return []
    reader = Reader(data)
    root = reader.root()
    place = root.place(0)
    if place is None:
        return []
    start, count = reader.span(reader.follow(place), 4)
    reader.spend(4 * count)
    found = []
    for index in range(count):
        at, length = reader.span(reader.follow(start + 4 * index), 1)
        reader.spend(length)
        found.append(_executable(Reader(data[at : at + length]).root()))
    return found


def _executable(table: Table) -> Executable:
    kind = table.number(13, "h")
    if kind not in tuple(Kind):
        raise UnknownFormat(f"an executable of kind {kind}; known are 0, 1 and 2")
    return Executable(
        kind=Kind(kind),
        name=table.text(1),
        chip=table.text(10),
        batch=table.number(3, "i"),
        parameter_bytes=table.extent(6)[1],
        scratch_bytes=table.number(4, "i"),
        instruction_bytes=sum(stream.extent(0)[1] for stream in table.tables(5)),
        activation_bytes_per_tile=table.number(12, "i"),
        estimated_cycles=table.number(16, "q") or table.number(11, "i"),
        caching_token=table.number(14, "Q"),
        inputs=tuple(_layer(one) for one in table.tables(8)),
        outputs=tuple(_layer(one) for one in table.tables(9)),
    )


def _layer(table: Table) -> Layer:
    numerics, place = table.table(5), None
    if numerics is not None:
        place = numerics.place(1)
    scale = float(numerics.reader.number("f", place)) if numerics and place is not None else 0.0
    kind = table.number(6, "h")
    return Layer(
        name=table.text(0),
        sizes=(table.number(2, "i"), table.number(3, "i"), table.number(4, "i")),
        bytes=table.number(1, "i"),
        dtype=_TYPES.get(kind, f"type {kind}"),
        scale=scale,
        zero_point=numerics.number(0, "i") if numerics else 0,
        executions=table.number(9, "i", 1),
    )


def _bytes(table: Table, field: int) -> bytes:
    start, count = table.extent(field)
    table.reader.spend(count)
    found: bytes = table.reader.source[start : start + count]
    return found
