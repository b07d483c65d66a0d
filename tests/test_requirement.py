"""Versions and ranges are read as PEP 440 has them."""

from __future__ import annotations

import itertools

import pytest

from edgepipe.errors import InternalError
from edgepipe.requirement import Range, Requirement, Version, normal_name

# The order that PEP 440 gives as its summary, and the spellings that it lets pass.
IN_ORDER = (
    "1.dev0",
    "1.0.dev456",
    "1.0a1",
    "1.0a2.dev456",
    "1.0a12.dev456",
    "1.0a12",
    "1.0b1.dev456",
    "1.0b2",
    "1.0b2.post345.dev456",
    "1.0b2.post345",
    "1.0rc1.dev456",
    "1.0rc1",
    "1.0",
    "1.0.post456.dev34",
    "1.0.post456",
    "1.0.15",
    "1.1.dev1",
    "1.10",
    "1!0.1",
)


def version(text: str) -> Version:
    read = Version.parse(text)
    assert read is not None
    return read


@pytest.mark.parametrize(("lower", "higher"), list(itertools.pairwise(IN_ORDER)))
def test_orders_versions(lower: str, higher: str) -> None:
    assert version(lower) < version(higher)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.0", "1"),
        ("1.0.0", "v1.0"),
        ("1.0-1", "1.0.post1"),
        ("1.0alpha1", "1.0a1"),
        ("2.13.0+cpu", "2.13.0"),
        ("1.0c1", "1.0-RC.1"),
        ("1.0.rev3", "1.0.post3"),
    ],
)
def test_takes_spellings_of_one_version_as_equal(one: str, other: str) -> None:
    assert version(one) == version(other)


@pytest.mark.parametrize("text", ["", "unknown", "1.x", "1.0 final", "1..0"])
def test_reads_no_version_where_there_is_none(text: str) -> None:
    assert Version.parse(text) is None
    assert not Range.parse("").holds(text)


@pytest.mark.parametrize(
    ("range", "held", "refused"),
    [
        (">=2.13,<2.14", ("2.13", "2.13.5", "2.13.0+cpu"), ("2.12.9", "2.14", "2.14.0rc1", "3")),
        ("==2.13.0", ("2.13.0", "2.13", "2.13.0+cu130"), ("2.13.1", "2.13.0.post1", "2.13.0rc1")),
        ("==1.4.*", ("1.4", "1.4.9", "1.4.0.post1"), ("1.40", "1.5", "1")),
        ("!=1.4.*", ("1.40", "1.5"), ("1.4", "1.4.9")),
        ("!=1.4", ("1.4.1",), ("1.4", "1.4.0+local")),
        ("~=2.2", ("2.2", "2.9", "2.2.post3"), ("2.1", "3.0")),
        ("~=2.2.0", ("2.2.0", "2.2.9"), ("2.3", "2.1.9")),
        (">1.7", ("1.7.1", "1.8"), ("1.7", "1.7.0.post2", "1.7rc1")),
        ("<=1.7", ("1.7", "1.6"), ("1.7.1", "1.7.post1")),
        ("<3.0rc1", ("2.9", "3.0b2"), ("3.0rc1", "3.0")),
        (">=3.10,<3.14", ("3.10.13", "3.13.0"), ("3.9.18", "3.14.0")),
    ],
)
def test_range_holds(range: str, held: tuple[str, ...], refused: tuple[str, ...]) -> None:
    read = Range.parse(range)
    assert [text for text in held if not read.holds(text)] == []
    assert [text for text in refused if read.holds(text)] == []


def test_requirement_has_the_normal_name() -> None:
    read = Requirement.parse("AI_Edge.LiteRT >= 2.3.0 , <3")
    assert read.name == "ai-edge-litert"
    assert str(read) == "ai-edge-litert>= 2.3.0,<3"
    assert read.range.holds("2.4")


@pytest.mark.parametrize(
    "text",
    ["torch[cpu]>=2", "torch; python_version<'3'", "torch @ file:///x", "torch>=", ">=2", ""],
)
def test_refuses_what_it_would_misread(text: str) -> None:
    with pytest.raises(InternalError, match="is no"):
        Requirement.parse(text)


def test_normalizes_names_as_pep_503() -> None:
    assert normal_name("Backports.StrEnum__x") == "backports-strenum-x"
