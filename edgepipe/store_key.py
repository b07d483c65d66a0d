"""The name of a result: a hash over everything that decides it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from enum import Enum
from typing import Any

from edgepipe.errors import InternalError


def key(parts: Mapping[str, Any]) -> str:
    """The name of a result: SHA-256 over everything that decides it.

    Takes JSON's types and tuples, paths, enums and bytes; anything else is refused, because its
    text might differ from run to run.
    """
    return hashlib.sha256(canonical(_plain(parts, "key"))).hexdigest()


def canonical(data: Any) -> bytes:
    """One spelling for equal values: sorted keys, no spaces; floats keep every bit."""
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, where)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_name(name, where): _plain(item, f"{where}.{name}") for name, item in value.items()}
    raise InternalError(f"{where} can't be part of a key: it is a {type(value).__name__}")


def _name(name: Any, where: str) -> str:
    plain = name.value if isinstance(name, Enum) else name
    if not isinstance(plain, str):
        raise InternalError(f"the names in {where} have to be text, received {name!r}")
    return plain
