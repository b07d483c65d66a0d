"""Makes a model of integers legal for the Edge TPU, and foretells the mapping before and after."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgepipe import toolchain
from edgepipe.delivery import check_folder
from edgepipe.errors import ModelNotFound, OptionError
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.story import Listener
from edgepipe.targets.edgetpu import compilable
from edgepipe.targets.edgetpu.preflight import Preflight, preflight

TOOLCHAIN = "edge"


@dataclass(frozen=True)
class Fixed:
    """`notes` say each rewrite, how often it was done, and what was undone."""

    path: Path
    notes: tuple[str, ...]
    before: Preflight
    after: Preflight


def legalise(model: str | Path, out: str | Path, *, listener: Listener | None = None) -> Fixed:
    """Write MODEL, an int8 or uint8 TFLite file, to `out` with all rewrites that hold.

    It takes the toolchain `edge`: each change is run in LiteRT before and after.
    """
    source, target = Path(model).expanduser(), Path(out).expanduser()
    if not source.is_file():
        raise ModelNotFound(f"no file {str(source)!r}", hint="give an int8 .tflite file.")
    if target.is_dir() or target.resolve() == source.resolve():
        raise OptionError(
            f"the result can't be written to {target}", hint="-o names a file, and not the model's."
        )
    check_folder(target.parent)
    compilable.load(source, allow_float=True)
    before = preflight(source)
    lacking = toolchain.missing([TOOLCHAIN])
    if lacking is not None:
        raise lacking
    with Store() as store, Session(store, listener) as session:
        made = session.folder / "legal.tflite"
        answer = session.call(
            TOOLCHAIN,
            "edgepipe.targets.edgetpu.legalising:run",
            session.log("legalise"),
            path=str(source.resolve()),
            out=str(made),
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        shutil.copyfile(made, partial)
        partial.replace(target)
    return Fixed(target, tuple(answer.value), before, preflight(target))
