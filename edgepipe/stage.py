"""The contract of a stage: one arrow from a format to another, run in one toolchain.

A stage is a class in a file of its own, listed in `catalog`. The pipeline, not the stage,
checks what it promised: that its output exists, has the format, loads, keeps the names and
order of inputs and outputs, and computes the same. `run` is called in a worker, in the
toolchain's own interpreter, where only the standard library, numpy and that toolchain are
at hand; no framework may be imported at module level.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
import typing
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args, get_origin

from edgepipe.artifact import Artifact, Format, Signature
from edgepipe.errors import OptionError, UnknownName

if TYPE_CHECKING:
    from edgepipe.dataset import Dataset
    from edgepipe.learning import Written

T = TypeVar("T")


def option(default: T, help: str) -> T:
    """A field of an `Options` class with the words that the user reads."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Options:
    """Typed settings of a stage: flag, TOML key and cache key are all read off its fields."""

    never_from_files: ClassVar[tuple[str, ...]] = ()
    """What edgepipe.toml can't set: a file in a checkout must not name a program to run."""

    def settings(self) -> dict[str, Any]:
        """As a worker is sent them."""
        return dataclasses.asdict(self)

    def key(self) -> dict[str, Any]:
        """What of them decides the result."""
        return self.settings()

    @classmethod
    def names(cls) -> dict[str, str]:
        """Field name -> help."""
        return {f.name: str(f.metadata.get("help", "")) for f in dataclasses.fields(cls)}

    @classmethod
    def from_settings(cls, settings: dict[str, Any], where: str) -> Options:
        """Build from names and values; text is read as the field's type; `where` names it."""
        hints = typing.get_type_hints(cls)
        known = cls.names()
        values: dict[str, Any] = {}
        for name, value in settings.items():
            if name not in known:
                raise UnknownName.of(f"option of {where}", name, known)
            values[name] = read_setting(value, hints[name], f"{where}.{name}")
        return cls(**values)


def read_setting(value: Any, kind: Any, name: str) -> Any:
    """A value of TOML, or text of a flag or the environment, as the type that is wanted."""
    origin = get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None or value in ("", "none"):
            return None
        kind = next(arg for arg in get_args(kind) if arg is not type(None))
        return read_setting(value, kind, name)
    if origin is typing.Literal:
        by_text = {str(known): known for known in get_args(kind)}
        if str(value) not in by_text:
            raise UnknownName.of(f"value for {name}", str(value), by_text)
        return by_text[str(value)]
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            items = (value,)
        return tuple(read_setting(item, get_args(kind)[0], name) for item in items if item != "")
    return _read_scalar(value, kind, name)


_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def _read_scalar(value: Any, kind: Any, name: str) -> Any:
    if kind is bool:
        text = str(value).lower()
        if text in _TRUE | _FALSE:
            return text in _TRUE
    elif kind in (int, float, str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            read = kind(value)
            cut = kind is int and read != value and not isinstance(value, str)
            if not cut and (kind is not float or math.isfinite(read)):
                return read
    raise OptionError(
        f"{name} takes {getattr(kind, '__name__', kind)}, received {value!r}",
        hint="see `edgepipe plan` for the options of each stage.",
    )


@dataclass(frozen=True)
class Product:
    """What a stage made: where, and with which ends.

    `layouts` names, for an output whose layout the tool decides, the permutations that it may
    have, best guess first; verification settles which one it is.
    """

    path: Path
    signature: Signature
    layouts: dict[str, list[tuple[int, ...] | None]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    """For the step's summary in the report."""

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "signature": self.signature.to_json(),
            "layouts": self.layouts,
            "notes": list(self.notes),
            "facts": self.facts,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Product:
        layouts = {
            name: [None if item is None else tuple(item) for item in items]
            for name, items in data["layouts"].items()
        }
        return Product(
            path=Path(data["path"]),
            signature=Signature.from_json(data["signature"]),
            layouts=layouts,
            notes=tuple(data["notes"]),
            facts=data.get("facts", {}),
        )


class Stage(ABC):
    """One arrow. Stateless: everything comes in through arguments."""

    name: ClassVar[str]
    """Its name in the catalog: `<to>_from_<from>`, the tool behind a dot where several do it."""
    label: ClassVar[str]
    """The short word for it in the name of a route; empty for stages that every route shares."""
    sources: ClassVar[tuple[Format, ...]]
    target: ClassVar[Format]
    toolchain: ClassVar[str]
    """Empty for a `ProgramStage`."""
    revision: ClassVar[int]
    """Raised when the same input and options would give another result."""
    towards: ClassVar[tuple[Format, ...]] = ()
    """Of one that keeps its format: only on routes that end there, and not on a user's own file."""
    shuns_onnx: ClassVar[bool] = False
    """Only on routes without ONNX: of those with it, another stage leads to the same."""
    options: ClassVar[type[Options]] = Options
    preload: ClassVar[tuple[str, ...]] = ()
    """Modules worth importing while an earlier stage is still running."""

    def learns(self, options: Any) -> bool:
        """Whether `run_on` wants the user's calibration samples."""
        del options
        return False

    def check(self, artifact: Artifact, options: Any) -> None:  # noqa: B027 - most need none
        """Refuse cheaply, in the parent, what `run` could not do. No framework here."""

    @abstractmethod
    def run(self, artifact: Artifact, options: Any, workdir: Path) -> Product:
        """Read the artifact, write below workdir. Called in the worker."""

    def run_on(
        self, artifact: Artifact, options: Any, workdir: Path, data: Dataset | Written | None
    ) -> Product:
        """The same for a stage that learns from samples; None where none were given."""
        del data
        return self.run(artifact, options, workdir)


class ProgramStage(Stage):
    """One that drives a program of its own and needs no framework: it runs in edgepipe itself.

    A worker has no network and no files but its own; a compiler may be in a container or on
    another machine.
    """

    toolchain: ClassVar[str] = ""

    @abstractmethod
    def identity(self, options: Any) -> str:
        """What the program is, for the key of the result. Raises ToolMissing where it isn't."""

    @abstractmethod
    def whereabouts(self) -> str:
        """Where the program would be taken from, in words, without asking it anything."""

    @abstractmethod
    def drive(self, artifact: Artifact, options: Any, workdir: Path, log: Path) -> Product:
        """Run the program; what it says goes to the log, which stays when the folder goes."""

    def run(self, artifact: Artifact, options: Any, workdir: Path) -> Product:
        return self.drive(artifact, options, workdir, workdir / "program.log")
