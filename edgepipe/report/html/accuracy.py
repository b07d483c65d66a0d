"""Accuracy on both sides with intervals, and their paired difference against its limit."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgepipe.report.html import plots, wording
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.plots import Line, Mark
from edgepipe.report.html.tables import Cell, Column, plain
from edgepipe.report.html.view import Data, View

TITLE = "Accuracy"
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def section(view: View) -> list[Html] | None:
    scores = view.part("scores") or ()
    parts = [_score(view, score) for score in scores if score.get("difference")]
    alone = [_score(view, score) for score in scores if not score.get("difference")]
    if alone:
        parts.append(el("div", alone, class_="figures"))
    if scores:
        parts.append(_table(scores))
    elif view.absent("scores"):
        parts.append(el("p", view.absent("scores")))
    proof = view.proof
    if proof and proof.get("outputs"):
        parts += _proof(proof)
    return parts or None


def _score(view: View, score: Data) -> Html:
    unit = score.get("unit", "")
    of = f" of {score['output']}" if score.get("output") else ""
    title = f"{score['metric']}{of}"
    sides = [_line(one, score[key], unit, kind) for one, key, kind in
             (("float model", "baseline", "float"), ("deployed model", "candidate", "mine"))
             if score.get(key)]  # fmt: skip
    limits = _limits(view, score, difference=False)
    figures = [el("figure", plots.intervals(f"{title}, both sides", sides, limits))]
    if score.get("difference"):
        line = _line("difference, paired", score["difference"], unit, "difference", sign=True)
        marks = [Mark(0.0, "no difference", "equal"), *_limits(view, score, difference=True)]
        figures.append(el("figure", plots.intervals(f"{title}, difference", [line], marks)))
    better = "higher is better" if score.get("higher_is_better", True) else "lower is better"
    told = [f"{wording.plural(score['samples'], 'sample')}, {better}"]
    if score.get("test"):
        p_value = score.get("p_value")
        p_words = "" if p_value is None else f", p = {wording.number(p_value, 2)}"
        told.append(f"{score['test']}{p_words}")
    return el(
        "div",
        el("h3", title),
        el("div", figures, class_="figures"),
        el("p", "; ".join(told), ".", class_="muted"),
    )


def _line(label: str, found: Data, unit: str, kind: str, sign: bool = False) -> Line:
    return Line(label, found, wording.interval(found, unit, sign), kind)


def _limits(view: View, score: Data, difference: bool) -> list[Mark]:
    """What a gate asks of this very metric, where it says so in a number."""
    found = []
    for gate in view.part("gates") or ():
        number = NUMBER.search(gate["limit"])
        if not number or score["metric"] not in gate["words"]:
            continue
        limit, words = float(number.group()), f"limit {gate['limit']}"
        if difference and gate["name"] == "max-drop":
            loss = -abs(limit) if score.get("higher_is_better", True) else abs(limit)
            found.append(Mark(loss, words))
        elif not difference and gate["name"] in (
            f"min-{score['metric']}",
            f"max-{score['metric']}",
        ):
            found.append(Mark(limit, words))
    return found[:1]


def _table(scores: Sequence[Data]) -> Html:
    rows: list[list[Child | Cell]] = [
        [
            score["metric"],
            score.get("output", ""),
            wording.interval(score.get("baseline"), score.get("unit", "")),
            wording.interval(score["candidate"], score.get("unit", "")),
            wording.interval(score.get("difference"), score.get("unit", ""), sign=True),
            f"{score['samples']:,}",
        ]
        for score in scores
    ]
    level = scores[0]["candidate"].get("level", 0.95)
    return el(
        "details",
        el("summary", "As a table"),
        plain(
            f"Metrics, with intervals of {level:.0%}",
            ["Metric", "Output", "Float", "Deployed", "Difference", Column("Samples", True)],
            rows,
        ),
    )


def _proof(proof: Data) -> list[Html]:
    """What conversion itself compared, with or without labels."""
    rows: list[list[Child | Cell]] = []
    for one in proof["outputs"]:
        same = one.get("argmax_agreement")
        rows.append(
            [
                el("code", one["name"]),
                Cell(wording.decibels(one["sqnr_db"]), one["sqnr_db"]),
                wording.percent(one["relative_error"]),
                wording.percent(same),
                wording.number(one.get("cosine"), 6)
                if one.get("cosine") is not None
                else wording.NOTHING,
            ]
        )
    side = "the float model" if proof.get("quantized") else "the model given"
    count = wording.plural(proof["samples"], "sample")
    parts = [el("h3", f"Nearness to {side}")]
    labelled = proof.get("accuracy")
    if labelled:
        parts.append(
            el(
                "p",
                f"On {labelled['samples']:,} labelled samples the float model is right in "
                f"{wording.percent(labelled['float'])}, the quantized one in "
                f"{wording.percent(labelled['quantized'])}: {labelled['only_float_right']} are "
                f"right only before, {labelled['only_quantized_right']} only now.",
            )
        )
    columns: list[str | Column] = ["Output", Column("Signal to noise", True),
        Column("Largest error", True), Column("Same largest element", True),
        Column("Cosine", True)]  # fmt: skip
    return [*parts, plain(f"Each output beside that of {side}, {count}", columns, rows)]
