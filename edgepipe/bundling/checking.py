"""Whether a bundle is as it was written, by the very code that a board checks it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepipe import catalog
from edgepipe.errors import EdgepipeError, LimitError, MissingError, PathError

RUNNER = "edgepipe.device_tests.run_on_device"


def check(path: str | Path, public_key: str | Path = "") -> dict[str, Any]:
    """Every byte against the manifest, and that against its signature: the manifest; or raises."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise PathError(f"{file} is no file", hint="name a bundle, or a folder of convert's.")
    stop: type[Exception] = catalog.load(f"{RUNNER}:Stop")
    try:
        opened = catalog.load(f"{RUNNER}:Bundle")(str(file), "", str(public_key))
    except stop as error:
        told: Any = error
        kind: type[EdgepipeError] = (
            MissingError if told.code == MissingError.exit_code else LimitError
        )
        raise kind(told.message, hint=told.hint) from error
    return {**opened.manifest, "signature": opened.signed}
