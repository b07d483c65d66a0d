"""Stages that drive a program: looked for early, left out where it isn't there or isn't wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgepipe import catalog
from edgepipe.artifact import IR, Artifact
from edgepipe.errors import EdgepipeError, ToolMissing
from edgepipe.plan import Route
from edgepipe.request import Request
from edgepipe.session import Session
from edgepipe.stage import ProgramStage


@dataclass(frozen=True)
class Ahead:
    """The routes that can be gone, and the program that they end before, for lack of it."""

    routes: list[Route]
    lacking: EdgepipeError | None = None


def look_ahead(
    session: Session, request: Request, routes: Sequence[Route], source: Artifact
) -> Ahead:
    """Without its program a route ends one step earlier, and the run goes that far."""
    last = routes[0].stages[-1] if routes[0].stages else None
    if request.device and catalog.target(request.target).format in IR:
        from edgepipe.targets.openvino import devices

        devices.ask(session, request.device)
    if not isinstance(last, ProgramStage):
        compiles = request.no_compile and catalog.target(request.target).compiled
        return Ahead(_shorter(routes) if compiles else list(routes))
    options = session.options(last)
    if routes[0].stages == (last,):
        last.check(source, options)  # The user's own file: said now, and as a wrong input.
    if request.device:
        from edgepipe.targets.edgetpu import device_run

        device_run.ask(session, request.device)
    try:
        if not request.no_compile:
            last.identity(options)
            return Ahead(list(routes))
        lacking = None
    except ToolMissing as error:
        lacking = error
    return Ahead(_shorter(routes), lacking)


def _shorter(routes: Sequence[Route]) -> list[Route]:
    return [replace(route, stages=route.stages[:-1]) for route in routes]
