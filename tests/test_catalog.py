"""The one table: every name leads to what it says, an unknown one to those that are known."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from edgepipe import catalog
from edgepipe.artifact import Format
from edgepipe.errors import UnknownName, UnsupportedModel
from edgepipe.plan import routes_between


@pytest.mark.parametrize(
    ("find", "kind", "known"),
    [(catalog.stage, "stage", catalog.STAGES), (catalog.target, "target", catalog.TARGETS)],
)
def test_unknown_name_is_told_the_known_ones(
    find: Callable[[str], Any], kind: str, known: dict[str, Any]
) -> None:
    with pytest.raises(UnknownName, match=f"unknown {kind} 'nonsense'") as caught:
        find("nonsense")
    assert caught.value.details["known"] == sorted(known)


def test_near_miss_is_guessed() -> None:
    with pytest.raises(UnknownName) as caught:
        catalog.stage("onnx_from_kears")
    assert caught.value.hint.startswith("did you mean onnx_from_keras")


def test_stage_is_made_once() -> None:
    assert catalog.stage("onnx_clean") is catalog.stage("onnx_clean")


def test_every_stage_is_on_some_route() -> None:
    used: set[str] = set()
    for source, target in itertools.product(Format, catalog.TARGETS.values()):
        for goal in {target.format_of(precision) for precision in target.precisions}:
            with contextlib.suppress(UnsupportedModel):  # From integers to floats, say.
                routes = routes_between(source, goal)
                used |= {stage.name for route in routes for stage in route.stages}
    assert used == set(catalog.STAGES)


def test_labels_tell_stages_between_the_same_formats_apart() -> None:
    seen: set[tuple[Format, Format, str]] = set()
    for stage in catalog.stages():
        for source in stage.sources:
            end = (source, stage.target, stage.label)
            assert end not in seen, f"{stage.name}: another stage of the same label"
            seen.add(end)
