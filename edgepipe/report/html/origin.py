"""Where it comes from: the command, the data and what was done to it, versions, the machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from edgepipe.report.html import wording
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.tables import Cell, plain
from edgepipe.report.html.view import Data, View

TITLE = "How to make it again"
NAMED = (
    "keras", "tensorflow", "torch", "onnx", "onnx2tf", "tf2onnx", "litert-torch", "openvino",
    "nncf", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "ethos-u-vela", "numpy",
)  # fmt: skip
"""Packages that decide what comes out; the others are below them, folded."""


def section(view: View) -> list[Html] | None:
    report = view.report
    parts = _commands(view)
    parts += [el("p", text, class_="warning") for text in report.get("warnings", ())]
    parts += [el("p", text) for text in view.part("notes") or ()]
    facts = [*_source(view), *_data(view), *_machine(report)]
    if facts:
        parts.append(el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in facts],
                        class_="facts"))  # fmt: skip
    fed = {name: report.get(name) for name in ("samples", "calibration")}
    for name, one in {**fed, "validation data": view.part("data")}.items():
        if one and one.get("preprocessing"):
            parts.append(_settings(f"Preprocessing of the {name}", one["preprocessing"]))
    if report.get("request"):
        parts.append(_settings("What was asked", report["request"]))
    parts += [_versions(name, one) for name, one in report.get("toolchains", {}).items()]
    return parts or None


def _commands(view: View) -> list[Html]:
    """Of the conversion, and of a validation that another command made."""
    every = [view.report.get("command") or (), view.part("command") or ()]
    return [_command(words) for words in {tuple(map(str, one)): one for one in every} if words]


def _command(words: Sequence[str]) -> Html:
    first = words[0].replace("\\", "/").rsplit("/", 1)[-1]
    line = shlex.join([first, *words[1:]])
    return el(
        "div",
        el("pre", el("code", line), tabindex=0),
        el("button", "Copy the command", type="button", class_="copy", hidden=True),
        el("span", role="status", class_="muted"),
        class_="command",
    )


def _source(view: View) -> list[tuple[str, Child]]:
    facts: list[tuple[str, Child]] = []
    source = view.report.get("source")
    if source:
        facts += [("Model", f"{source['path']} ({source['format']})"),
                  ("Its SHA-256", wording.digest(source["sha256"]))]  # fmt: skip
    for name in ("candidate", "baseline"):
        side = view.part(name)
        if side:
            facts.append((f"Measured {name}", _side(side)))
            if side.get("sha256"):
                facts.append((f"SHA-256 of the {name}", wording.digest(str(side["sha256"]))))
    return facts


def _side(side: Data) -> str:
    """The file, what ran it and where, and the versions that matter."""
    words = [str(side.get("file", ""))]
    words += [str(side[key]) for key in ("runner", "device") if side.get(key)]
    if side.get("threads"):
        words.append(wording.plural(side["threads"], "thread"))
    versions = side.get("versions") or {}
    return ", ".join([*words, *(f"{one} {versions[one]}" for one in NAMED if one in versions)])


def _data(view: View) -> list[tuple[str, Child]]:
    facts: list[tuple[str, Child]] = []
    for name in ("samples", "calibration"):
        found = view.report.get(name)
        if found:
            digest = str(found.get("digest") or wording.NOTHING)
            facts += [(name.capitalize(), f"{found['from']}, seed {found.get('seed')}"),
                      (f"Digest of the {name}", wording.digest(digest))]  # fmt: skip
    measured = view.part("data")
    if measured:
        count = wording.plural(measured.get("samples", 0), "sample")
        where = measured.get("where") or measured.get("from") or "data"
        facts.append(("Validated on", f"{count} of {where}"))
        digest = str(measured.get("digest") or wording.NOTHING)
        facts.append(("Digest of that data", wording.digest(digest)))
    return facts


def _machine(report: Data) -> list[tuple[str, Child]]:
    facts: list[tuple[str, Child]] = []
    machine = report.get("machine")
    if machine:
        facts.append(("Machine", f"{machine['system']}, {wording.size(machine['memory'])} of "
                      f"memory, Python {machine['python']}"))  # fmt: skip
    if report.get("peak_memory"):
        peak = report["peak_memory"]
        facts.append(("Peak memory", f"edgepipe {wording.size(peak['edgepipe'])}, workers "
                      f"{wording.size(peak['workers'])}"))  # fmt: skip
    if report.get("edgepipe"):
        facts.append(("edgepipe", f"{report['edgepipe']}, {report.get('created', '')}"))
    return facts


def _settings(title: str, found: Mapping[str, Any]) -> Html:
    rows: list[list[Child | Cell]] = [[el("code", name), value] for name, value in flat(found)]
    return el("details", el("summary", title), plain(title, ["Setting", "Value"], rows))


def flat(found: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested settings as `stage.field`."""
    rows: list[tuple[str, str]] = []
    for name, value in found.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{above}{name}.")
        else:
            rows.append((f"{above}{name}", wording.plainly(value)))
    return rows


def _versions(name: str, toolchain: Data) -> Html:
    versions = toolchain.get("versions", {})
    main = ", ".join(f"{one} {versions[one]}" for one in NAMED if one in versions)
    rows: list[list[Child | Cell]] = [[package, version] for package, version in versions.items()]
    return el(
        "details",
        el("summary", el("b", f"Toolchain {name}"), f" {main}"),
        el("p", "fingerprint ", el("code", str(toolchain.get("fingerprint", "")))),
        plain(f"Packages of {name}", ["Package", "Version"], rows),
    )
