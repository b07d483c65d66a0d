"""The user's `package.module:factory`: found, called, and its failures told as the user's own."""

from __future__ import annotations

import random
from importlib import import_module
from types import ModuleType
from typing import Any

from edgepipe.artifact import Loading
from edgepipe.errors import OptionError, UnknownName, UnsupportedModel, UsageError, UserCodeError

from .user_code import told, trimmed


def call_factory(loading: Loading) -> Any:
    """The `nn.Module` that the factory makes; seeded, for weights that it leaves to chance."""
    factory = _find(loading)
    torch = import_module("torch")
    random.seed(0)
    import_module("numpy").random.seed(0)
    torch.manual_seed(0)
    try:
        module = factory(**dict(loading.factory_args))
    except Exception as error:
        raise told(error, f"{loading.factory} raised", loading.python_path) from error
    if isinstance(module, torch.nn.Module):
        return module
    raise UnsupportedModel(
        f"{loading.factory} returned {type(module).__name__}, expected a torch.nn.Module",
        hint="the factory is called with --model-arg's and returns the model itself.",
    )


def _find(loading: Loading) -> Any:
    name, colon, attribute = loading.factory.partition(":")
    if not (name and colon and attribute):
        raise OptionError(
            f"--model takes package.module:factory, received {loading.factory!r}",
            hint="for instance --model mynets.mobile:build, where mynets/mobile.py has a function"
            " or class `build` that returns the model.",
        )
    found: Any = _import(name, loading)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UnknownName.of(f"factory of {name}", attribute, _callables(found))
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(
            f"{loading.factory} is of type {type(found).__name__}, expected a function or class",
            hint=f"callables of {name}: {', '.join(_callables(import_module(name))) or 'none'}.",
        )
    return found


def _import(name: str, loading: Loading) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise UsageError(
                f"no module {missing!r}: not in {_places(loading)}",
                hint="--python-path DIR where the module lies in DIR, or name a Python that has"
                " it installed: EDGEPIPE_PYTHON_TORCH=/path/to/python.",
            ) from error
        trace = trimmed(error, loading.python_path)
        raise UserCodeError(
            f"{name} needs the module {missing!r}, which is not here:\n{trace}",
            hint=f"name a Python that has {missing!r} installed beside torch:"
            " EDGEPIPE_PYTHON_TORCH=/path/to/python.",
            traceback=trace,
        ) from error
    except Exception as error:
        raise told(error, f"importing {name} raised", loading.python_path) from error


def _places(loading: Loading) -> str:
    given = ", ".join(repr(folder) for folder in loading.python_path)
    return f"{given} and not installed" if given else "the toolchain's Python"


def _callables(found: Any) -> list[str]:
    """What of a module could be a factory: its own functions and classes first."""
    public = [name for name in dir(found) if not name.startswith("_")]
    names = [name for name in public if callable(getattr(found, name, None))]
    owner = getattr(found, "__name__", "")
    own = [name for name in names if getattr(getattr(found, name), "__module__", "") == owner]
    return own or names
