"""The routes from a format to a goal, in order of preference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgepipe import catalog
from edgepipe.artifact import COMPILED, QUANTIZED, Format
from edgepipe.errors import UnknownName, UnsupportedModel
from edgepipe.stage import Stage

NO_STEPS = "as-is"


@dataclass(frozen=True)
class Route:
    """Stages in order. `cleaners` among them keep the format; one that fails is left out."""

    stages: tuple[Stage, ...]
    source: Format

    @property
    def name(self) -> str:
        """The tools that make it, joined: `tf2onnx+onnx2tf`."""
        return "+".join(stage.label for stage in self.stages if stage.label) or NO_STEPS

    @property
    def direct(self) -> bool:
        """Whether it leaves ONNX out."""
        return self.source is not Format.ONNX and all(
            stage.target is not Format.ONNX for stage in self.stages
        )

    def formats(self) -> tuple[Format, ...]:
        return (self.source, *(stage.target for stage in self.stages))

    def toolchains(self) -> tuple[str, ...]:
        """Those of its stages and of the runners that prove each arrow, each once."""
        wanted = [stage.toolchain for stage in self.stages if stage.toolchain]
        wanted += [catalog.runner(format).toolchain for format in self.formats()]
        return tuple(dict.fromkeys(wanted))


def routes_between(source: Format, goal: Format) -> list[Route]:
    """All routes, best first: through ONNX before direct ones, then by back-end and exporter."""
    if source in QUANTIZED and goal in (Format.TFLITE, Format.OPENVINO, source):
        raise UnsupportedModel(
            "the model is quantized: its tensors are stored in fewer bits, nothing gives back what"
            " that lost, and a float model is needed to start from",
            hint="give the float model that it was made of.",
        )
    if source in COMPILED:
        raise UnsupportedModel(
            f"the model is compiled already ({source}): what a chip runs can't be turned back",
            hint="give the model that it was made of; `edgepipe inspect` shows what it holds.",
        )
    walked = [Route(stages, source) for stages in _walk(source, goal, frozenset())]
    found = [
        route
        for route in walked
        if route.direct or not any(stage.shuns_onnx for stage in route.stages)
    ]
    if not found:
        reachable = ", ".join(sorted({str(stage.target) for stage in catalog.stages()}))
        raise UnsupportedModel(
            f"no route leads from {source} to {goal}", hint=f"routes end at: {reachable}."
        )
    return sorted(found, key=_preference)


def _walk(at: Format, goal: Format, seen: frozenset[Format]) -> Iterator[tuple[Stage, ...]]:
    """Every way onward. At a format that has cleaners, those come first and always."""
    cleaners = tuple(
        stage
        for stage in catalog.stages()
        if at in stage.sources
        and stage.target is at
        and (not stage.towards or (seen and goal in stage.towards))
    )
    if at is goal:
        yield cleaners
        return
    for stage in catalog.stages():
        if at not in stage.sources or stage.target is at or stage.target in seen:
            continue
        for rest in _walk(stage.target, goal, seen | {at}):
            yield (*cleaners, stage, *rest)


def _preference(route: Route) -> tuple[bool, tuple[int, ...]]:
    """The last stage decides first: another exporter is cheaper to try than a slow back-end."""
    ranks = {name: rank for rank, name in enumerate(catalog.STAGES)}
    return route.direct, tuple(ranks[stage.name] for stage in reversed(route.stages))


def pick(found: list[Route], name: str) -> Route:
    """The route of that name."""
    by_name = {route.name: route for route in found}
    if name not in by_name:
        raise UnknownName.of("route", name, by_name)
    return by_name[name]
