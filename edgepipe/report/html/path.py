"""The path of the model: the steps of the chosen route, and what became of the others."""

from __future__ import annotations

from edgepipe.report.html import wording
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.verdict import nearness
from edgepipe.report.html.view import Data, View

TITLE = "The path of the model"
STATUS = {
    "chosen": "chosen",
    "proven": "proven, not chosen",
    "failed": "failed",
    "not-tried": "not tried",
}
STEP = {
    "made": "made",
    "kept": "kept from an earlier run",
    "failed": "failed",
    "unproven": "made, and not what the model was",
    "left-out": "left out",
}


def section(view: View) -> list[Html] | None:
    routes = view.report.get("routes", ())
    if not routes:
        return None
    others = [one for one in routes if one["status"] != "chosen"]
    parts: list[Html] = []
    if view.chosen:
        parts.append(el("p", "Route ", el("code", view.chosen["route"]), ", each step proven by "
                        "running what went in and what came out on the same samples."))  # fmt: skip
        parts.append(_flow(view))
    if others:
        head = "Other routes" if view.chosen else "Routes tried"
        walked = [one for one in others if one.get("steps")]
        parts += [el("h3", head), *(_route(one, opened=not view.chosen) for one in walked)]
        rest = [_untried(one) for one in others if not one.get("steps")]
        parts.append(el("ul", rest, class_="untried") if rest else Html(""))
    return parts


def _flow(view: View) -> Html:
    source = view.report.get("source", {})
    boxes = [el("li", el("b", view.name), el("span", source.get("format", "")), class_="end")]
    boxes += [_box(step) for step in view.steps]
    if view.outputs:
        last = view.outputs[-1]
        boxes.append(el("li", el("b", last["path"]), el("span", last["format"]), class_="end"))
    return el("ol", boxes, class_="flow")


def _box(step: Data) -> Html:
    proof = step.get("proof")
    lines: list[Child] = [el("span", _time(step))]
    if proof:
        lines.append(el("span", _proof(proof), class_="proof"))
    tools = f"in {step['toolchain']}" if step.get("toolchain") else "in edgepipe"
    notes = step.get("notes") or ()
    return el(
        "li",
        el("b", step["stage"]),
        el("span", tools),
        *lines,
        _folded(wording.plural(len(notes), "note"), notes) if notes else None,
        class_=step["status"],
    )


def _time(step: Data) -> str:
    made = wording.seconds(step.get("stage_seconds") or step["seconds"])
    if step["status"] == "kept":
        return f"{made}, kept"
    if step["status"] == "made":
        return made
    return f"{made}, {STEP.get(step['status'], step['status'])}"


def _proof(proof: Data) -> str:
    if proof.get("not_run"):
        return "not run here"
    near = wording.decibels(nearness(proof))
    words = "equal" if near == "equal" else near
    return f"{words} on {wording.plural(proof['samples'], 'sample')}"


def _folded(head: str, lines: Child) -> Html:
    items = [el("li", line) for line in lines] if isinstance(lines, (list, tuple)) else lines
    return el("details", el("summary", head), el("ul", items))


def _untried(route: Data) -> Html:
    status = STATUS.get(route["status"], route["status"])
    return el(
        "li",
        el("code", route["route"]),
        f" {status}",
        f": {route['reason']}" if route.get("reason") else "",
    )


def _route(route: Data, opened: bool) -> Html:
    steps, reason = route.get("steps", ()), str(route.get("reason", ""))
    status = STATUS.get(route["status"], route["status"])
    took = f", {wording.seconds(route['seconds'])}" if route.get("seconds") else ""
    head = el("summary", el("code", route["route"]), el("span", f"{status}{took}", class_="tag"))
    return el(
        "details",
        head,
        el("p", reason) if reason else None,
        el("ol", [_step(step) for step in steps], class_="steps"),
        open=opened,
        class_=f"route {route['status']}",
    )


def _step(step: Data) -> Html:
    error = step.get("error") or {}
    status = STEP.get(step["status"], step["status"])
    proof = f", {_proof(step['proof'])}" if step.get("proof") else ""
    tail = (error.get("details") or {}).get("tail") or ()
    notes = step.get("notes") or ()
    return el(
        "li",
        el("b", step["stage"]),
        f" {status}, {wording.seconds(step['seconds'])}{proof}",
        el("p", error["message"]) if error.get("message") else None,
        el("p", el("strong", "What to do: "), error["hint"]) if error.get("hint") else None,
        el("pre", "\n".join(map(str, tail)), tabindex=0) if tail else None,
        _folded(wording.plural(len(notes), "note"), notes) if notes else None,
        el("p", "log: ", el("code", step["log"])) if error and step.get("log") else None,
        class_=step["status"],
    )
