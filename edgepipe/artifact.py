"""A model on disk: its format, its digest, and the names, shapes and layouts of its ends."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any


class Format(str, Enum):
    """What a file or folder is, told by its content (see `identify`)."""

    KERAS = "keras"
    KERAS_H5 = "keras-h5"
    SAVED_MODEL = "saved-model"
    TORCH_EXPORT = "pt2"
    TORCHSCRIPT = "torchscript"
    TORCH_PICKLE = "torch-pickle"
    TORCH_SOURCE = "torch-source"
    ONNX = "onnx"
    TFLITE = "tflite"
    TFLITE_QUANTIZED = "tflite-quantized"
    OPENVINO = "openvino"
    OPENVINO_QUANTIZED = "openvino-quantized"
    EDGETPU = "edgetpu"
    ETHOSU = "ethos-u"

    def __str__(self) -> str:
        return self.value


QUANTIZED = (Format.TFLITE_QUANTIZED, Format.OPENVINO_QUANTIZED)
"""Of fewer bits than the model that they were made of."""
IR = (Format.OPENVINO, Format.OPENVINO_QUANTIZED)
"""OpenVINO's: a folder, or an .xml that was given with its .bin beside it."""
COMPILED = (Format.EDGETPU, Format.ETHOSU)
"""Made for a chip, by its compiler: nothing but that chip runs them."""

LARGE = 16 << 20
"""Bytes from which on a digest is remembered. What is written to a file changes its ctime."""
PIECE = 1 << 18
"""Bytes read at once: what a processor's cache holds."""


@dataclass(frozen=True)
class Port:
    """One input or output.

    `shape` and `dtype` are those in the file; a None in the shape is a dimension that is not
    fixed yet, and a shape of None is not known at all. `tensor` is the name inside the file
    where it differs from `name`. `permutation` leads from the layout of the model that the
    user gave to the layout in the file: `file = numpy.transpose(given, permutation)`, for
    outputs too. `high` bounds integer inputs that index a table (exclusive).
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    tensor: str = ""
    permutation: tuple[int, ...] | None = None
    high: int | None = None

    @property
    def fixed(self) -> bool:
        return self.shape is not None and None not in self.shape

    @property
    def unbounded(self) -> bool:
        """Whether it takes integers too wide to feed them all, of which nothing bounds the use."""
        wide = self.dtype.removeprefix("u") in ("int16", "int32", "int64")
        return wide and self.high is None

    def given_shape(self) -> tuple[int | None, ...] | None:
        """The shape in the layout of the model that the user gave."""
        if self.shape is None or self.permutation is None:
            return self.shape
        given: list[int | None] = [None] * len(self.shape)
        for position, axis in enumerate(self.permutation):
            given[axis] = self.shape[position]
        return tuple(given)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"name": self.name, "shape": self.shape, "dtype": self.dtype}
        if self.tensor and self.tensor != self.name:
            data["tensor"] = self.tensor
        if self.permutation is not None:
            data["permutation"] = self.permutation
        if self.high is not None:
            data["high"] = self.high
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> Port:
        shape = data["shape"]
        permutation = data.get("permutation")
        return Port(
            name=data["name"],
            shape=None if shape is None else tuple(shape),
            dtype=data["dtype"],
            tensor=data.get("tensor", ""),
            permutation=None if permutation is None else tuple(permutation),
            high=data.get("high"),
        )


@dataclass(frozen=True)
class Signature:
    """The ends of a model, in order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": [port.to_json() for port in self.inputs],
            "outputs": [port.to_json() for port in self.outputs],
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Signature:
        return Signature(
            inputs=tuple(Port.from_json(port) for port in data["inputs"]),
            outputs=tuple(Port.from_json(port) for port in data["outputs"]),
        )


@dataclass(frozen=True)
class Loading:
    """What a model that the user gave needs in order to load, beyond its own file.

    `code` is a digest over the user's code that would run; it is part of every key.
    """

    custom_objects: str = ""
    factory: str = ""
    factory_args: tuple[tuple[str, Any], ...] = ()
    weights: str = ""
    python_path: tuple[str, ...] = ()
    trust: bool = False
    code: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "custom_objects": self.custom_objects,
            "factory": self.factory,
            "factory_args": dict(self.factory_args),
            "weights": self.weights,
            "python_path": list(self.python_path),
            "trust": self.trust,
            "code": self.code,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Loading:
        return Loading(
            custom_objects=data["custom_objects"],
            factory=data["factory"],
            factory_args=tuple(data["factory_args"].items()),
            weights=data["weights"],
            python_path=tuple(data["python_path"]),
            trust=data["trust"],
            code=data["code"],
        )

    def key(self) -> dict[str, Any]:
        """What of this decides the result: names and digests, never paths or consent."""
        return {
            "custom_objects": self.custom_objects,
            "factory": self.factory,
            "factory_args": dict(self.factory_args),
            "code": self.code,
        }


@dataclass(frozen=True)
class Artifact:
    """A file or folder with a format and a digest. `signature` is None until it was described."""

    path: Path
    format: Format
    digest: str
    signature: Signature | None = None
    loading: Loading = field(default_factory=Loading)

    def with_signature(self, signature: Signature) -> Artifact:
        return replace(self, signature=signature)

    def ends(self) -> Signature:
        """The signature of an artifact that was described."""
        if self.signature is None:
            raise ValueError(f"{self.path} was not described yet")
        return self.signature

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "format": self.format.value,
            "digest": self.digest,
            "signature": None if self.signature is None else self.signature.to_json(),
            "loading": self.loading.to_json(),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Artifact:
        signature = data.get("signature")
        return Artifact(
            path=Path(data["path"]),
            format=Format(data["format"]),
            digest=data["digest"],
            signature=None if signature is None else Signature.from_json(signature),
            loading=Loading.from_json(data["loading"]),
        )


def digest_file(path: Path) -> str:
    """The SHA-256 of a file's bytes; of a large one once, as long as it stays what it is."""
    facts = path.stat()
    if facts.st_size < LARGE:
        return _digest(path)
    return _digest_once(path, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


@functools.lru_cache(64)
def _digest_once(path: Path, *_state: int) -> str:
    """A data set of 276 MB was read three times for one validation, a third of a second each."""
    return _digest(path)


def _digest(path: Path) -> str:
    hasher = hashlib.sha256()
    piece = memoryview(bytearray(PIECE))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            hasher.update(piece[:count])
    return hasher.hexdigest()


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files are equal, byte by byte; `filecmp` takes 8 KiB at a time and 3 as long."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb", buffering=0) as first, other.open("rb", buffering=0) as second:
        while piece := first.read(PIECE):
            if second.read(PIECE) != piece:
                return False
    return True


def digest_path(path: Path) -> str:
    """The digest of a file, or of a folder: names and contents, sorted."""
    if path.is_file():
        return digest_file(path)
    hasher = hashlib.sha256()
    for file in files_below(path):
        name = os.fsencode(file.relative_to(path).as_posix())
        hasher.update(name + f"\0{digest_file(file)}\n".encode())
    return hasher.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted by name; through links too, each folder once."""
    found: list[Path] = []
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(root))
        folders[:] = [name for name in folders if os.path.realpath(f"{root}/{name}") not in seen]
        found.extend(Path(root) / name for name in names)
    return sorted(found)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in files_below(path))
