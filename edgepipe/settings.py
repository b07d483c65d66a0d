"""What the user sets once: the nearest edgepipe.toml, and where the cache is."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from edgepipe.errors import OptionError, UnknownName

PROJECT_FILE = "edgepipe.toml"
TABLES = (
    "toolchains",
    "options",
    "store",
    "convert",
    "preprocessing",
    "defaults",
    "gates",
    "models",
)

_TOML = "tomllib" if sys.version_info >= (3, 11) else "tomli"  # tomllib came with Python 3.11


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; an OptionError names the file, line and column of a mistake."""
    toml = importlib.import_module(_TOML)
    try:
        read: dict[str, Any] = toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(
            f"{path} is not valid TOML: {error}", hint="mend that line, or take the file away."
        ) from error
    except OSError as error:
        raise OptionError(f"{path} can't be read: {error.strerror}") from error
    return read


def cache_root() -> Path:
    """EDGEPIPE_CACHE, else edgepipe's folder in the user's cache."""
    named = os.environ.get("EDGEPIPE_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification: a path that isn't absolute is to be ignored.
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache"
    return base / "edgepipe"


def configuration_root() -> Path:
    """EDGEPIPE_CONFIG, else edgepipe's folder in the user's configuration."""
    named = os.environ.get("EDGEPIPE_CONFIG")
    if named:
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CONFIG_HOME")
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".config"
    return base / "edgepipe"


def project_file(start: Path | None = None) -> Path | None:
    """The nearest edgepipe.toml, from `start` (or the current folder) upwards."""
    folder = (start or Path.cwd()).absolute()
    for parent in (folder, *folder.parents):
        if (parent / PROJECT_FILE).is_file():
            return parent / PROJECT_FILE
    return None


def project_settings(start: Path | None = None) -> dict[str, Any]:
    """The tables of the nearest edgepipe.toml; empty without one."""
    path = project_file(start)
    if path is None:
        return {}
    settings = read_toml(path)
    for name, value in settings.items():
        if name not in TABLES:
            raise UnknownName.of(f"table in {path}", name, TABLES)
        if not isinstance(value, dict):
            raise OptionError(
                f"{path}: expected a table [{name}], received {value!r}",
                hint=f"write [{name}] on a line of its own, and its settings below.",
            )
    return settings


def store_folder() -> Path | None:
    """The folder that [store] in the nearest edgepipe.toml names, relative to that file."""
    path = project_file()
    table = project_settings().get("store", {})
    for name in table:
        if name != "folder":
            raise UnknownName.of(f"key of [store] in {path}", name, ["folder"])
    if path is None or "folder" not in table:
        return None
    if not isinstance(table["folder"], str):
        raise OptionError(f"{path}: [store] folder takes a path, received {table['folder']!r}")
    return path.parent / Path(table["folder"]).expanduser()
