"""What a user asks of a validation, in one typed object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgepipe.dataset import DataSource
from edgepipe.errors import OptionError, UnknownName
from edgepipe.layers import request_for
from edgepipe.request import Request
from edgepipe.validation import limits
from edgepipe.validation.limits import Limit

BASELINES = ("auto", "keras", "torch", "onnxruntime", "tensorflow-xla")
DEVICES = ("cpu", "gpu")
OF_THE_REQUEST = (
    "weights",
    "model_args",
    "python_path",
    "submodule",
    "custom_objects",
    "trust",
    "inputs",
    "labels",
    "columns",
    "limit",
    "preprocessing",
    "seed",
    "retry",
)
"""Of a conversion's keywords those that mean something here: how a model loads, what is fed."""


@dataclass(frozen=True)
class Asked:
    """Every field is a keyword of `edgepipe.validate` and a flag of the command.

    The others of its keywords are those of `convert` that say how a model loads and what is
    done to data; they are in `request`, whose model is the float one.
    """

    artifact: Path
    data: str
    request: Request
    against: str = ""
    out: Path | None = None
    baseline: str = "auto"
    baseline_device: str = "cpu"
    device: str = ""
    jobs: int = 0
    threads: int = 0
    metrics: tuple[str, ...] = ()
    truth: str = ""
    postprocess: tuple[str, ...] = ()
    gates: Mapping[str, str] = field(default_factory=dict)
    since: Mapping[str, Any] | None = None
    """The document of the run that was accepted, or the file that holds it."""
    allow_leak: bool = False
    allow_undecided: bool = False
    worst: int = 8
    latency: bool | None = None
    """None measures it where a gate, a budget or a batch asks for it."""
    latency_budget: float | None = None
    batch: tuple[int, ...] = ()

    @staticmethod
    def of(artifact: str | Path, arguments: Mapping[str, Any]) -> Asked:
        own = {item.name for item in fields(Asked)} - {"artifact", "request"}
        for name in arguments:
            if name not in own | set(OF_THE_REQUEST):
                raise UnknownName.of("argument of validate", name, own | set(OF_THE_REQUEST))
        said = {name: value for name, value in arguments.items() if name in own}
        others = {name: value for name, value in arguments.items() if name not in own}
        if not str(artifact):
            raise OptionError(
                "no artifact was named",
                hint="edgepipe validate ARTIFACT --against MODEL --data DATA",
            )
        if not said.get("data"):
            raise OptionError(
                "nothing says on which samples to compare",
                hint="give some with --data DATA: labelled ones for accuracy.",
            )
        said["data"] = str(said["data"])
        said["against"] = str(said.get("against") or "")
        if said.get("out") is not None:
            said["out"] = Path(said["out"])
        said["metrics"] = tuple(said.get("metrics") or ())
        said["truth"] = str(said.get("truth") or "")
        said["postprocess"] = _several(said.get("postprocess"))
        said["batch"] = tuple(said.get("batch") or ())
        said["gates"] = {name: str(value) for name, value in (said.get("gates") or {}).items()}
        said["since"] = _document(said.get("since"))
        request = request_for(said["against"] or artifact, others)
        asked = Asked(Path(artifact).expanduser(), request=request, **said)
        asked.check()
        return asked

    @property
    def limits(self) -> tuple[Limit, ...]:
        return limits.read(self.gates)

    def source(self, request: Request | None = None) -> DataSource:
        """The data; what `truth` names in it is not fed."""
        data = (request or self.request).data(self.data)
        names = tuple(part.strip() for part in self.truth.split(",") if part.strip())
        inside = names and not Path(self.truth).expanduser().exists() and ":" not in self.truth
        return replace(data, apart=names) if inside else data

    def check(self) -> None:
        """Refuse what no validation can do, before anything is opened."""
        limits.read(self.gates)
        if self.baseline not in BASELINES:
            raise UnknownName.of("baseline", self.baseline, BASELINES)
        if self.baseline_device not in DEVICES:
            raise UnknownName.of("device of a baseline", self.baseline_device, DEVICES)
        for name in ("jobs", "threads", "worst"):
            if getattr(self, name) < 0:
                raise OptionError(f"--{name} takes a number from 0 on, received "
                                  f"{getattr(self, name)}")  # fmt: skip


def _several(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _document(since: Any) -> Mapping[str, Any] | None:
    """Of a path what it holds; a report of `convert --validate` has it below `validation`."""
    if since is None or isinstance(since, Mapping):
        return since
    try:
        found = json.loads(Path(since).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{since} can't be read as the document of an earlier validation: {error}",
            hint="name the validation.json or report.json of the run that was accepted.",
        ) from error
    document = found.get("validation", found) if isinstance(found, dict) else None
    if not isinstance(document, dict) or "scores" not in document:
        raise OptionError(
            f"{since} is no document of a validation",
            hint="name the validation.json or report.json of the run that was accepted.",
        )
    return document
