"""Which toolchains the routes to a target use."""

from __future__ import annotations

from edgepipe import catalog
from edgepipe.artifact import Format


def needed_for(target: str, source: Format | None = None) -> tuple[str, ...]:
    """The toolchains that any route to this target uses, from one format or from all of them."""
    wanted = catalog.target(target)
    goal = wanted.compiled or wanted.format
    # What leads beside ONNX is worth its frameworks only to who starts right before it.
    stages = [
        stage for stage in catalog.stages() if not stage.shuns_onnx or source in stage.sources
    ]
    starts = set(catalog.RUNNERS) if source is None else {source}
    reached = _closure(starts, [(set(stage.sources), stage.target) for stage in stages])
    leading = _closure(
        {goal}, [({stage.target}, each) for stage in stages for each in stage.sources]
    )
    useful = reached & leading
    used = {
        stage.toolchain for stage in stages if stage.target in useful and useful & {*stage.sources}
    }
    used |= {catalog.runner(format).toolchain for format in useful}
    return tuple(name for name in catalog.TOOLCHAINS if name in used)


def _closure(start: set[Format], arrows: list[tuple[set[Format], Format]]) -> set[Format]:
    reached = set(start)
    while more := {end for begins, end in arrows if begins & reached} - reached:
        reached |= more
    return reached
