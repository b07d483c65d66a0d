"""How metrics look at a sample: what is done to outputs before, and what is true of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgepipe import toolchain
from edgepipe.artifact import Port, Signature
from edgepipe.dataset import DataSource
from edgepipe.errors import OptionError, SamplesError
from edgepipe.session import Session
from edgepipe.validation import limits, postprocessing
from edgepipe.validation import truth as truths
from edgepipe.validation.metrics import by_name
from edgepipe.validation.postprocessing import Step
from edgepipe.validation.truth import TruthSource

if TYPE_CHECKING:
    from edgepipe.runner import Tensors
    from edgepipe.validation.asked import Asked
    from edgepipe.validation.evaluating import Data


@dataclass(frozen=True)
class Sight:
    """Plain data, for workers. `truth` is what `edgepipe.validation.truth.write` told of it."""

    steps: tuple[Step, ...] = ()
    truth: dict[str, Any] = field(default_factory=dict)

    def outputs(self, outputs: Tensors) -> Tensors:
        return postprocessing.applied(self.steps, outputs)

    def truth_at(self, position: int, label: int | None) -> Any:
        if not self.truth:
            return label
        return truths.opened(self.truth["folder"]).at(position)

    def kinds(self, data: Data) -> tuple[str, ...]:
        """What may be taken for true, as `Metric.truth` says it."""
        if self.truth:
            return tuple(self.truth["kinds"])
        return ("label", "numbers") if data.labelled else ()

    @property
    def annotations(self) -> str:
        return str(self.truth.get("annotations", ""))

    def facts(self) -> dict[str, Any]:
        """For the document: two runs with another truth have no samples in common."""
        return {"truth": self.truth["digest"]} if self.truth else {}

    def key(self) -> dict[str, Any]:
        """What of it decides the rows that metrics make; empty where it adds nothing."""
        found: dict[str, Any] = {}
        if self.steps:
            found["steps"] = [step.to_json() for step in self.steps]
        if self.truth:
            found["truth"] = self.truth["digest"]
        return found

    def to_json(self) -> dict[str, Any]:
        return {"steps": [step.to_json() for step in self.steps], "truth": self.truth}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Sight:
        return Sight(tuple(map(Step.from_json, data["steps"])), data["truth"])


def require(asked: Asked) -> None:
    """What is lacking is said before anything runs."""
    source = TruthSource.of(asked.truth, asked.request)
    users = any(Step.of(text, asked.request).is_function for text in asked.postprocess)
    needed = {source.toolchain if source else "", "edge" if users else ""}
    wanted = [*asked.metrics, *limits.metrics(asked.limits)]
    detecting = source is not None and source.annotations and not asked.metrics
    for name in [*wanted, *(["map"] if detecting else [])]:
        name = name.partition("@")[0]
        needed |= set() if by_name.is_function(name) else {by_name.named(name).toolchain}
    needed -= {""}
    lacking = toolchain.missing(sorted(needed))
    if lacking is not None:
        raise lacking


def prepare(
    session: Session, asked: Asked, source: DataSource, ends: Signature, data: Data
) -> tuple[Sight, Signature]:
    """The sight, and the ends as metrics see them."""
    steps = tuple(Step.of(text, asked.request).placed(ends) for text in asked.postprocess)
    sight = Sight(steps, _truth(session, asked, source, ends, data))
    return sight, _seen(session, steps, ends)


def _seen(session: Session, steps: tuple[Step, ...], ends: Signature) -> Signature:
    if not steps:
        return ends
    arguments: dict[str, Any] = {
        "steps": [step.to_json() for step in steps],
        "ends": ends.to_json(),
    }
    if any(step.is_function for step in steps):
        entry = "edgepipe.validation.postprocessing:ports"
        found = session.call("edge", entry, session.log("postprocess"), **arguments).value
    else:
        found = postprocessing.ports(**arguments)
    return Signature(ends.inputs, tuple(map(Port.from_json, found)))


def _truth(
    session: Session, asked: Asked, source: DataSource, ends: Signature, data: Data
) -> dict[str, Any]:
    origin = TruthSource.of(asked.truth, asked.request)
    if origin is None:
        return {}
    crops = {source.preprocessing.of(port.name).crop for port in ends.inputs} - {"none"}
    if origin.annotations and crops:
        raise OptionError(
            f"boxes can't be found again in pictures that are cropped ({', '.join(sorted(crops))})",
            hint="validate detectors with --crop none, as they are fed.",
        )
    arguments: dict[str, Any] = {
        "data": source.to_json(),
        "ends": ends.to_json(),
        "source": origin.to_json(),
        "folder": str(session.folder / "truth"),
    }
    place = source.toolchain or origin.toolchain
    if place:
        entry = "edgepipe.validation.truth_jobs:write"
        found = dict(session.call(place, entry, session.log("truth"), **arguments).value)
    else:
        from edgepipe.validation import truth_jobs

        found = truth_jobs.write(**arguments)
    if found["count"] != data.count:
        raise SamplesError(
            f"{asked.truth} tells of {found['count']} samples, and there are {data.count}"
        )
    return found
