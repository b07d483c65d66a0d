"""JUnit XML of runs: a suite for each model, a case for each step and each gate.

There is no one schema of it. What is written is valid by Jenkins' `jenkins-junit.xsd` and by the
stricter one of Ant's reports that GitLab, GitHub's actions and Azure were built around.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from edgepipe.report.outcome import LIMIT_EXIT, Outcome

HOST = "localhost"
"""As Ant writes where a name is nobody's business; the schema wants one."""
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
TAIL = 4000
"""Characters of a message that are kept."""


def text(outcomes: Sequence[Outcome], allow_undecided: bool = False) -> str:
    """The document; an undecided gate is a failure, or skipped where that was allowed."""
    root = Element("testsuites")
    for place, outcome in enumerate(outcomes):
        root.append(_suite(outcome, place, allow_undecided))
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _suite(outcome: Outcome, place: int, allow_undecided: bool) -> Element:
    cases = [_step(outcome, route, step) for route, step in outcome.steps]
    cases += [_gate(outcome, gate, allow_undecided) for gate in outcome.gates]
    if _unsaid(outcome, cases):
        cases.append(_failed_run(outcome))
    if not cases:
        cases.append(_case(outcome, "run", outcome.seconds))
    suite = Element(
        "testsuite",
        {
            "id": str(place),
            "name": _clean(outcome.name),
            "package": "edgepipe",
            "timestamp": _timestamp(outcome),
            "hostname": HOST,
            "tests": str(len(cases)),
            "failures": str(sum(case.find("failure") is not None for case in cases)),
            "errors": str(sum(case.find("error") is not None for case in cases)),
            "skipped": str(sum(case.find("skipped") is not None for case in cases)),
            "time": _seconds(outcome.seconds),
        },
    )
    properties = SubElement(suite, "properties")
    for name, value in _properties(outcome).items():
        SubElement(properties, "property", {"name": name, "value": _clean(value)})
    suite.extend(cases)
    SubElement(suite, "system-out").text = _clean("\n".join(_said(outcome)))
    SubElement(suite, "system-err").text = ""
    return suite


def _step(outcome: Outcome, route: str, step: Mapping[str, Any]) -> Element:
    """A step that failed is no failure where another route led to the goal."""
    chosen = outcome.chosen
    name = f"step {step['stage']}" + (f" ({route})" if route != chosen else "")
    case = _case(outcome, name, step["seconds"])
    error = step["error"]
    status = step["status"]
    if status in ("made", "kept"):
        return case
    why = error["message"] if error else "not proven: its output differs from its input"
    if chosen or status == "left-out":
        left = "left out" if status == "left-out" else f"{status}, and another route was taken"
        SubElement(case, "skipped", {"message": _clean(f"{left}: {why}")})
        return case
    kind = error["error"] if error else "Unproven"
    _broken(case, "failure" if kind in ("Unproven", "BelowLimit") else "error", kind, why, step)
    return case


def _gate(outcome: Outcome, gate: Mapping[str, Any], allow_undecided: bool) -> Element:
    case = _case(outcome, f"gate {gate['name']}", 0.0)
    verdict, words = gate["verdict"], str(gate["words"])
    if verdict == "undecided" and allow_undecided:
        SubElement(case, "skipped", {"message": _clean(words)})
    elif verdict != "passed":
        found = SubElement(case, "failure", {"type": verdict, "message": _clean(words)})
        found.text = _clean(f"limit {gate['limit']}, seen {gate['seen']}: {words}")
    return case


def _unsaid(outcome: Outcome, cases: Sequence[Element]) -> bool:
    """Whether the run failed of something that is no step and no gate."""
    if outcome.error is None:
        return False
    told = [case for case in cases if case.find("failure") is not None]
    told += [case for case in cases if case.find("error") is not None]
    judged = outcome.exit_code == LIMIT_EXIT and bool(outcome.gates)
    return not told and not judged


def _failed_run(outcome: Outcome) -> Element:
    error = outcome.error
    assert error is not None
    case = _case(outcome, "run", outcome.seconds)
    tag = "failure" if outcome.exit_code == LIMIT_EXIT else "error"
    _broken(case, tag, str(error["error"]), str(error["message"]), error.get("details", {}))
    if error.get("hint"):
        child = case.find(tag)
        assert child is not None
        child.text = f"{child.text}\n{_clean(str(error['hint']))}"
    return case


def _broken(case: Element, tag: str, kind: str, message: str, step: Mapping[str, Any]) -> None:
    found = SubElement(case, tag, {"type": kind, "message": _clean(message.splitlines()[0])})
    log = f"\nlog: {step['log']}" if step.get("log") else ""
    found.text = _clean(message[-TAIL:] + log)


def _case(outcome: Outcome, name: str, seconds: float) -> Element:
    return Element(
        "testcase",
        {
            "classname": f"edgepipe.{_clean(outcome.name).replace('.', '_').replace('/', '.')}",
            "name": _clean(name),
            "time": _seconds(seconds),
        },
    )


def _properties(outcome: Outcome) -> dict[str, str]:
    found = {"status": outcome.status, "exit_code": str(outcome.exit_code)}
    if outcome.target:
        found["target"] = outcome.target
    if outcome.model:
        found["sha256"] = str(outcome.model["sha256"])
        found["size"] = str(outcome.model["size"])
    if outcome.chosen:
        found["route"] = outcome.chosen
    return found


def _said(outcome: Outcome) -> list[str]:
    lines = [f"{step['stage']}: {step['status']}" for _, step in outcome.steps]
    lines += [f"{gate['name']}: {gate['words']}" for gate in outcome.gates]
    return [*lines, *outcome.notes]


def _timestamp(outcome: Outcome) -> str:
    """Without a zone, as the schema has it; in UTC."""
    for document in (outcome.report, outcome.validation):
        if document and document.get("created"):
            return str(document["created"]).removesuffix("Z")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def _clean(words: str) -> str:
    """What a tool printed may hold characters that no XML may."""
    return _NO_XML.sub("\ufffd", words)
