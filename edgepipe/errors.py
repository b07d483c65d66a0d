"""Every error that edgepipe raises on purpose: one tree, the exit code on the class.

EdgepipeError
├── InternalError            1  our bug
├── UsageError               2  what was asked can't be done as asked
│   ├── ModelNotFound           no such file or folder, or no model in it
│   ├── UnknownFormat           the content is of no format that edgepipe knows, or damaged
│   ├── UnsupportedModel        a known format that can't be a starting point
│   ├── UnknownName             not in the catalog; carries the known names
│   ├── OptionError             an option's value, or two options that exclude each other
│   ├── InputError              input names, shapes or types are wrong or can't be guessed
│   ├── SamplesError            the samples given don't fit the model
│   ├── TrustRequired           the model would run code
│   ├── UserCodeError           the user's factory or custom layer raised
│   └── PathError               a folder that can't be written
├── MissingError             3  this machine lacks something
│   ├── ToolchainMissing        not installed; carries the command that installs it
│   ├── ToolchainFailed         its installation failed
│   ├── ToolMissing             a program that edgepipe drives and never installs
│   ├── DeviceMissing           no such device in this machine, or no driver for it
│   ├── DeviceUnreachable       a board that can't be reached, or was lost on the way
│   └── DiskFull                no space left
├── StageError               4  a stage failed on every route
│   ├── StageFailed             the tool raised
│   ├── StageCrashed            its process died
│   ├── StageTimedOut           it took too long
│   ├── StageOutOfMemory        it took too much memory
│   ├── BrokenOutput            it exited well and its output is unusable
│   ├── Unproven                its output differs from its input
│   └── NoRouteLeft             every route failed; carries the story
│       └── BelowLimit       5  every route that got to its end was worse than the limits
└── LimitError               5  worse than the limits
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar


class EdgepipeError(Exception):
    """Message: what was expected and what came. Hint: what to do. Details: facts as data."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def to_json(self) -> dict[str, Any]:
        return {
            "error": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> EdgepipeError:
        kind = _by_name().get(str(data["error"]), InternalError)
        return kind(data["message"], hint=data.get("hint", ""), **data.get("details", {}))

    def __reduce__(self) -> tuple[Any, ...]:
        return (EdgepipeError.from_json, (self.to_json(),))


class InternalError(EdgepipeError):
    """Our bug."""


class UsageError(EdgepipeError):
    exit_code = 2


class ModelNotFound(UsageError):
    pass


class UnknownFormat(UsageError):
    pass


class UnsupportedModel(UsageError):
    pass


class UnknownName(UsageError):
    """A name that no table holds; `known` lists the ones that it could have been."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        from difflib import get_close_matches

        names = sorted(known)
        near = get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        listed = ", ".join(names) if names else "none"
        return cls(
            f"unknown {kind} {name!r}", hint=f"{hint}Known: {listed}.", known=names, name=name
        )


class OptionError(UsageError):
    pass


class InputError(UsageError):
    pass


class SamplesError(UsageError):
    pass


class TrustRequired(UsageError):
    pass


class UserCodeError(UsageError):
    pass


class PathError(UsageError):
    pass


class MissingError(EdgepipeError):
    exit_code = 3


class ToolchainMissing(MissingError):
    pass


class ToolchainFailed(MissingError):
    pass


class ToolMissing(MissingError):
    pass


class DeviceMissing(MissingError):
    pass


class DeviceUnreachable(MissingError):
    pass


class DiskFull(MissingError):
    pass


class StageError(EdgepipeError):
    exit_code = 4


class StageFailed(StageError):
    pass


class StageCrashed(StageError):
    pass


class StageTimedOut(StageError):
    pass


class StageOutOfMemory(StageError):
    pass


class BrokenOutput(StageError):
    pass


class Unproven(StageError):
    pass


class NoRouteLeft(StageError):
    made: tuple[Any, ...] = ()
    """The artifacts of a route that failed only at a chip's compiler, for the user's folder."""


class BelowLimit(NoRouteLeft):
    exit_code = 5


class LimitError(EdgepipeError):
    exit_code = 5


def _by_name() -> dict[str, type[EdgepipeError]]:
    found: dict[str, type[EdgepipeError]] = {}
    todo: list[type[EdgepipeError]] = [EdgepipeError]
    while todo:
        kind = todo.pop()
        found[kind.__name__] = kind
        todo.extend(kind.__subclasses__())
    return found
