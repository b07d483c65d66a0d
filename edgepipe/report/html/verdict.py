"""The page's first words: whether it is good enough, and each limit in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from edgepipe.report.html import wording
from edgepipe.report.html.markup import Html, el
from edgepipe.report.html.view import Data, View

SIGNS = {"measured": "•", "passed": "✓", "failed": "✕", "undecided": "?", "incomplete": "…"}
"""Beside the colour, which not everybody sees."""
ORDER = {"failed": 0, "undecided": 1, "passed": 2}


@dataclass(frozen=True)
class Words:
    state: str
    headline: str
    sentence: str


def words(view: View) -> Words:
    status = view.report.get("status", "done")
    if status == "failed":
        return _failed(view)
    if status == "incomplete":
        message = (view.report.get("error") or {}).get("message", "")
        return Words("incomplete", "Not finished here", message)
    if view.validation:
        return _judged(view.validation)
    if "routes" not in view.report:
        return Words("passed", "Compiled", "Every limit that was asked for is kept.")
    return Words("passed", "Converted and proven", _proven(view))


def _failed(view: View) -> Words:
    error = view.report.get("error") or {}
    said = str(error.get("message", "")).splitlines() or ["no route got to its end"]
    if error.get("error") in ("BelowLimit", "LimitError"):
        return Words("failed", "Below the limits", said[0].rstrip(":"))
    return Words("failed", "Not converted", said[0].rstrip(":"))


def _judged(validation: Data) -> Words:
    gates = validation["gates"]
    state = str(validation.get("verdict", "passed"))
    count = {name: sum(one["verdict"] == name for one in gates) for name in ORDER}
    if not gates:
        return Words("measured", "Measured", "No limits were set, so there was none to break.")
    if state == "failed":
        others = f", {count['undecided']} undecided" if count["undecided"] else ""
        broken = f"{count['failed']} of {wording.plural(len(gates), 'limit')} broken{others}."
        return Words(state, "Failed", broken)
    if state == "undecided":
        more = max((one.get("more_samples") or 0 for one in gates), default=0)
        wanted = f": about {more:,} more samples would tell" if more else ""
        of = f"{count['undecided']} of {wording.plural(len(gates), 'limit')}"
        return Words(state, "Undecided", f"For {of} there is not enough to tell{wanted}.")
    return Words("passed", "Passed", f"All {wording.plural(len(gates), 'limit')} kept.")


def _proven(view: View) -> str:
    proof = view.proof
    if proof is None:
        return "It loads, runs, and gives the same twice."
    count = wording.plural(proof["samples"], "sample")
    near = wording.decibels(nearness(proof))
    if proof.get("quantized"):
        return f"The quantized model is {near} from the float one, on {count} it never saw."
    same = f"{near} from it" if near != "equal" else "equal to it"
    return f"Run beside the model that was given on {count}, the result is {same}."


def nearness(proof: Data) -> float:
    """Of its worst output; the figure of the proof itself is rounded already."""
    each = [float(one["sqnr_db"]) for one in proof.get("outputs") or ()]
    return min(each, default=float(proof["sqnr_db"]))


def section(view: View, anchor: str | None = "verdict") -> Html:
    """A banner; the broken limits are in it, the kept ones below."""
    said = words(view)
    gates = sorted(view.part("gates") or (), key=lambda one: ORDER[one["verdict"]])
    error = view.report.get("error") or {}
    hint = error.get("hint") if said.state in ("failed", "incomplete") else None
    return el(
        "section",
        el(
            "h2",
            el("span", SIGNS[said.state], class_="sign", aria_hidden="true"),
            said.headline,
        ),
        el("p", said.sentence) if said.sentence else None,
        el("ul", [_gate(one) for one in gates], class_="gates") if gates else None,
        el("p", el("strong", "What to do: "), hint) if hint else None,
        id=anchor,
        class_=f"verdict {said.state}",
    )


def sentence(gate: Data) -> str:
    """What a gate says, without its name, which stands beside."""
    return str(gate["words"]).removeprefix(f"{gate['name']}: ")


def _gate(gate: Data) -> Html:
    verdict = str(gate["verdict"])
    return el(
        "li",
        el("span", SIGNS[verdict], class_="sign", aria_hidden="true"),
        el(
            "span",
            el("b", verdict.capitalize()),
            " ",
            el("code", gate["name"]),
            f" {sentence(gate)}",
        ),
        class_=verdict,
    )
