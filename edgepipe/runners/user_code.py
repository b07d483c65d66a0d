"""The user's own modules: imported on request, their errors told with the user's lines only."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from edgepipe.errors import UserCodeError


def add_to_path(folders: Sequence[str]) -> None:
    """Let the user's modules be found, now and when a layer imports something late."""
    for folder in reversed(folders):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def import_user_module(name: str, python_path: Sequence[str]) -> ModuleType:
    """Import one module of the user; what it raises becomes a UserCodeError."""
    add_to_path(python_path)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            looked = ", ".join(python_path) or "no folder was given"
            raise UserCodeError(
                f"there is no module {name!r} (looked in: {looked})",
                hint="name the folder that holds it with --python-path DIR.",
            ) from error
        raise told(error, f"importing {name} failed", python_path) from error
    except (Exception, SystemExit) as error:
        raise told(error, f"importing {name} failed", python_path) from error


def users_function(where: str, python_path: Sequence[str]) -> Callable[..., Any]:
    """What `module:function` names."""
    module_name, _, name = where.partition(":")
    function = getattr(import_user_module(module_name, python_path), name, None)
    if not callable(function):
        raise UserCodeError(
            f"{module_name} has no function {name!r}",
            hint="name one as module:function, and its folder with --python-path DIR.",
        )
    found: Callable[..., Any] = function
    return found


def told(error: BaseException, what: str, python_path: Sequence[str]) -> UserCodeError:
    """The error as one of the user's, with the traceback from the user's first line on."""
    trace = trimmed(error, python_path)
    return UserCodeError(f"{what}:\n{trace}", traceback=trace)


def raised_by_user(error: BaseException, python_path: Sequence[str]) -> bool:
    """Whether the line that raised lies below one of the user's folders."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _is_users(frames[-1].filename, python_path)


def trimmed(error: BaseException, python_path: Sequence[str]) -> str:
    """The traceback without what called the user's code, and without Python's import machinery."""
    first = _users_first(error.__traceback__, python_path)
    frames = [
        frame
        for frame in (traceback.extract_tb(first) if first else [])
        if not frame.filename.startswith("<frozen importlib")
    ]
    lines = traceback.format_list(frames) + traceback.format_exception_only(type(error), error)
    return "".join(lines).rstrip()


def _users_first(trace: TracebackType | None, python_path: Sequence[str]) -> TracebackType | None:
    while trace is not None:
        if _is_users(trace.tb_frame.f_code.co_filename, python_path):
            return trace
        trace = trace.tb_next
    return None


def _is_users(filename: str, python_path: Sequence[str]) -> bool:
    path = Path(filename).resolve()
    if "site-packages" in path.parts:
        return False
    return any(path.is_relative_to(Path(folder).resolve()) for folder in python_path)
