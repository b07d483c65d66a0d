"""Where packages come from: pip's settings, passed on to uv, which does not read them itself."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgepipe.errors import OptionError

SYSTEM_FILE = Path("/etc/pip.conf")
_FOR_UV = {
    "find-links": ("UV_FIND_LINKS", ","),
    "index-url": ("UV_DEFAULT_INDEX", ""),
    "extra-index-url": ("UV_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", ""),
    "proxy": ("ALL_PROXY", ""),
    "timeout": ("UV_HTTP_TIMEOUT", ""),
}
"""pip's setting -> the variable in which uv takes it, and what stands between several values."""
_ALREADY = {
    "UV_DEFAULT_INDEX": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "UV_INDEX": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
}
_OTHER_NAMES = {"pypi-url": "index-url", "default-timeout": "timeout"}


def uv_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv: what the user set for uv stays, what pip alone knows is added."""
    told = dict(environment)
    settings = pip_settings(environment)
    for name, (variable, between) in _FOR_UV.items():
        known = any(environment.get(each) for each in _ALREADY.get(variable, (variable,)))
        values = settings.get(name, "").split()
        if values and not known:
            told[variable] = between.join(values) if between else values[0]
    if told.get("UV_INDEX") != environment.get("UV_INDEX"):
        # pip takes the best version of all indexes, uv by default only of the first that has the
        # name (docs.astral.sh/uv/concepts/indexes): indexes from pip are meant as pip takes them.
        told.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return told


def pip_forbids_indexes(environment: Mapping[str, str]) -> bool:
    """uv has a flag for this, and no variable."""
    return pip_settings(environment).get("no-index", "").lower() in ("1", "true", "yes", "on")


def pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What `pip install` would use: files, then [install] over [global], then the environment."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(_files(environment), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise OptionError(f"pip's settings can't be read: {error}") from error
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            settings.update({_name(name): value for name, value in parser.items(section)})
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            settings[_name(name[4:])] = value
    return settings


def _name(text: str) -> str:
    name = text.lower().replace("_", "-")
    return _OTHER_NAMES.get(name, name)


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    """pip's own order, later ones winning (pip.pypa.io/en/stable/topics/configuration)."""
    named = environment.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    home = Path(environment.get("HOME") or Path.home())
    for folder in environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"):
        yield Path(folder) / "pip" / "pip.conf"
    yield SYSTEM_FILE
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    if sys.platform == "darwin":
        yield home / "Library" / "Application Support" / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if named:
        yield Path(named)
