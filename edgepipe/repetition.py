"""`edgepipe rerun`: a run done again from its report, and what differs from what it was."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepipe import api, catalog
from edgepipe.artifact import Signature
from edgepipe.errors import EdgepipeError, ModelNotFound, OptionError, TrustRequired
from edgepipe.project import keys
from edgepipe.project.models import placed
from edgepipe.report import comparison
from edgepipe.report.comparison import Difference
from edgepipe.report.outcome import left_behind
from edgepipe.request import Request, open_model
from edgepipe.story import Listener, Silent

LIMIT_EXIT = 5
PATHS = ("model", "samples", "calibration", "recipe", "weights", "python_path")


@dataclass(frozen=True)
class Again:
    """What the second run came to, and what differs. `error` is that of the second run."""

    before: Mapping[str, Any]
    after: Mapping[str, Any] | None
    differences: tuple[Difference, ...]
    error: EdgepipeError | None = None

    @property
    def worse(self) -> tuple[Difference, ...]:
        return tuple(one for one in self.differences if one.worse)

    @property
    def same_files(self) -> bool:
        """Bit for bit."""
        return self.error is None and not any(one.kind == "file" for one in self.differences)

    def exit_code(self, exact: bool = False) -> int:
        """0 where nothing is worse, 5 where something is; `exact`: or any file is another."""
        if self.error is not None and self.error.exit_code != LIMIT_EXIT:
            return self.error.exit_code
        return LIMIT_EXIT if self.worse or (exact and not self.same_files) else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "same_files": self.same_files,
            "worse": bool(self.worse),
            "differences": [asdict(one) for one in self.differences],
            "error": None if self.error is None else self.error.to_json(),
        }


@dataclass(frozen=True)
class Asked:
    """Every field is a keyword of `edgepipe.rerun`."""

    out: Path | None = None
    """Where the files go; without one they are compared and forgotten."""
    kept: bool = False
    """Take what the store has; else everything is made again, in a store of its own."""
    trust: bool = False
    allow_changed: bool = False
    moved: Mapping[str, str] = field(default_factory=dict)


def rerun(report: str | Path, *, listener: Listener | None = None, **arguments: Any) -> Again:
    """Do the run of a report.json again; keywords are the fields of `Asked`."""
    return run(read(Path(report)), Asked(**arguments), listener or Silent())


def read(path: Path) -> dict[str, Any]:
    """The report of one conversion."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = set(document)
    except OSError as error:
        raise ModelNotFound(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise OptionError(f"{path} is no report: {error}") from error
    if "targets" in known:
        below = ", ".join(str(row["report"]) for row in document["targets"] if row["report"])
        raise OptionError(
            f"{path} tells of several targets", hint=f"take the report of one: {below}."
        )
    if not {"request", "source", "routes", "outputs"} <= known:
        raise OptionError(
            f"{path} is no report of a conversion",
            hint="name the report.json in an output folder of `edgepipe convert`.",
        )
    found: dict[str, Any] = document
    return found


def run(before: Mapping[str, Any], asked: Asked, listener: Listener) -> Again:
    request = request_of(before, asked)
    wanted = _validation(before, asked)
    _require_same_files(before, request, asked)
    with _workplace(asked) as out:
        try:
            after = _run(replace(request, out=out), wanted, listener)
            error = None
        except EdgepipeError as caught:
            found = left_behind(caught)
            if found is None:
                raise
            after, error = dict(found), caught
    return Again(before, after, tuple(comparison.compare(before, after)), error)


def _run(request: Request, wanted: Mapping[str, Any], listener: Listener) -> dict[str, Any]:
    from edgepipe.validation import after_conversion

    result = api.run(request, listener)
    if wanted:
        result, _ = after_conversion.add(result, request, wanted, listener)
    return result.report


def request_of(before: Mapping[str, Any], asked: Asked) -> Request:
    """As it was asked, with flags, environment and edgepipe.toml of that time; paths made whole."""
    said = dict(before["request"])
    folder = Path(str(before.get("folder") or Path.cwd()))
    consents = ["trust"] if said.pop("trust", False) else []
    consents += ["compiler"] if said.get("compiler") else []
    for stage, values in said.get("options", {}).items():
        named = catalog.stage(stage).options.never_from_files
        consents += [f"{stage}.{name}" for name in named if values.get(name)]
    if consents and not asked.trust:
        raise TrustRequired(
            f"the report asks to run code or a program of its choice ({', '.join(consents)})",
            hint="a report may come from anybody: if you trust this one, add --trust.",
        )
    said.pop("out", None)
    for name in ("labels", "preprocessing", *PATHS):
        if isinstance(said.get(name), (str, list)):
            kind = keys.PATH_OR_NAME if name == "labels" else keys.PATH
            said[name] = _moved(placed(folder, said[name], kind), asked.moved)
    said.setdefault("python_path", [_moved(str(folder), asked.moved)])
    if not any(Path(one).is_dir() for one in said["python_path"]):
        del said["python_path"]
    model = said.pop("model")
    return Request.of(model, {**said, "trust": asked.trust})


def _validation(before: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """What the validation of the report was asked, as `convert` takes it."""
    then = (before.get("validation") or {}).get("asked")
    if not then:
        return {}
    folder = Path(str(before.get("folder") or Path.cwd()))
    found: dict[str, Any] = {}
    known = keys.validation_keys()
    for name, key in known.items():
        value = then.get("data" if name == keys.VALIDATE.name else name)
        if value is not None:
            kind = key.path
            found[name] = _moved(placed(folder, value, kind), asked.moved) if kind else value
    if "gates" in then:
        found["gates"] = then["gates"]
    # Gates about an accepted run are about this one: the report does not hold that other.
    found["since"] = before["validation"]
    return found


def _moved(value: Any, moves: Mapping[str, str]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_moved(item, moves) for item in value]
    for old, new in moves.items():
        if value == old or str(value).startswith(old.rstrip("/") + "/"):
            return new + str(value)[len(old) :]
    return value


def _require_same_files(before: Mapping[str, Any], request: Request, asked: Asked) -> None:
    """Names every source file that is gone, and, unless allowed, each that is another now."""
    gone, changed = [], []
    model = "" if request.factory() else str(request.model)
    named = {"model": model, **{name: str(getattr(request, name) or "") for name in PATHS[1:5]}}
    for what, text in named.items():
        if text and Path(text).is_absolute() and not Path(text).exists():
            gone.append(f"{what} {text}")
    if gone:
        raise ModelNotFound(
            f"what the run was made of is not there: {', '.join(gone)}",
            hint="bring it back, or say where it is now: --moved OLD=NEW.",
        )
    if model:
        digest = open_model(replace(request, trust=True), Path()).digest
        if digest != before["source"]["sha256"]:
            changed.append(f"model {model}")
    ends = Signature.from_json(before["source"]["signature"])
    for name, data in request.data_sources().items():
        then = before.get(name)
        if then and not data.toolchain and data.key(ends) != then["digest"]:
            changed.append(f"{name} {data.where}")
    if changed and not asked.allow_changed:
        raise OptionError(
            f"not what it was when the report was made: {', '.join(changed)}",
            hint="bring it back from version control; --allow-changed runs it all the same and"
            " says what comes of that.",
        )


@contextlib.contextmanager
def _workplace(asked: Asked) -> Iterator[Path]:
    """The output folder; and an empty store, for what is kept can't differ."""
    with tempfile.TemporaryDirectory(prefix="edgepipe-rerun-") as scratch:
        out = asked.out or Path(scratch) / "out"
        if asked.kept:
            yield out
            return
        earlier = os.environ.get("EDGEPIPE_STORE")
        os.environ["EDGEPIPE_STORE"] = f"{scratch}/store"
        try:
            yield out
        finally:
            if earlier is None:
                del os.environ["EDGEPIPE_STORE"]
            else:
                os.environ["EDGEPIPE_STORE"] = earlier
