"""What the two schemas of JUnit XML ask for, checked by hand: attributes, children, their order."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

SUITE = {"id", "name", "package", "timestamp", "hostname", "tests", "failures", "errors", "time"}
SUITE_CHILDREN = ("properties", "testcase", "system-out", "system-err")
OUTCOMES = {"skipped", "error", "failure"}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
SECONDS = re.compile(r"\d+\.\d{3}")


def suites(text: str) -> list[Element]:
    """The suites of a document that keeps to both schemas; an AssertionError says where not."""
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>')
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites" and not root.attrib
    for place, suite in enumerate(root):
        _check_suite(suite, place)
    return list(root)


def _check_suite(suite: Element, place: int) -> None:
    assert suite.tag == "testsuite"
    assert set(suite.attrib) == SUITE | {"skipped"}
    assert suite.attrib["id"] == str(place)
    assert TIMESTAMP.fullmatch(suite.attrib["timestamp"]), "the schema has no zone"
    assert SECONDS.fullmatch(suite.attrib["time"])
    tags = [child.tag for child in suite]
    order = sorted(tags, key=SUITE_CHILDREN.index)
    assert tags == order and tags.count("properties") == 1
    assert tags[-2:] == ["system-out", "system-err"]
    cases = suite.findall("testcase")
    counts = {tag: sum(case.find(tag) is not None for case in cases) for tag in OUTCOMES}
    assert int(suite.attrib["tests"]) == len(cases) >= 1
    assert int(suite.attrib["failures"]) == counts["failure"]
    assert int(suite.attrib["errors"]) == counts["error"]
    assert int(suite.attrib["skipped"]) == counts["skipped"]
    for one in suite.findall("properties/property"):
        assert set(one.attrib) == {"name", "value"}
    for case in cases:
        assert set(case.attrib) == {"classname", "name", "time"} and all(case.attrib.values())
        assert SECONDS.fullmatch(case.attrib["time"])
        assert len(case) <= 1 and {child.tag for child in case} <= OUTCOMES
        for child in case:
            wanted = {"message"} if child.tag == "skipped" else {"message", "type"}
            assert set(child.attrib) == wanted and child.attrib["message"]
    assert len({case.attrib["name"] for case in cases}) == len(cases), "names tell cases apart"
