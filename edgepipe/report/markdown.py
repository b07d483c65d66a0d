"""Runs as Markdown for a pull request: one table, what is wrong below it, all else folded away."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgepipe import __version__
from edgepipe.process_memory import words as size_words
from edgepipe.report.outcome import Outcome
from edgepipe.validation.metrics.metric import PERCENT

MOST = 60_000
"""Characters. GitHub refuses a comment of more than 65,536."""
MARKS = {"passed": "✅", "failed": "❌", "undecided": "❔", "error": "💥"}
HEAD = ("model", "verdict", "size", "accuracy", "against float", "latency", "on chip")
NOTHING = "-"


def text(outcomes: Sequence[Outcome], title: str = "edgepipe") -> str:
    """Details are left out from the end, as many as it takes to stay below GitHub's limit."""
    top = _top(outcomes, title)
    end = f"\n<sub>edgepipe {__version__}</sub>\n"
    room = MOST - len(top) - len(end)
    if room < 0:
        return _cut(top, MOST - len(end)) + end
    shown, left = [], 0
    for outcome in sorted(outcomes, key=lambda one: one.status == "passed"):
        details = _details(outcome)
        if len(details) > room - 100:
            left += 1
            continue
        room -= len(details)
        shown.append(details)
    note = f"\nThe details of {left} models are too long to show here.\n" if left else ""
    return top + "".join(shown) + note + end


def _top(outcomes: Sequence[Outcome], title: str) -> str:
    lines = [f"### {title}: {summary(outcomes)}", ""]
    lines += _table(HEAD, [_row(outcome) for outcome in outcomes])
    for outcome in outcomes:
        lines += [f"- **{_plain(outcome.name)}**: {_plain(words)}" for words in outcome.words()]
    return "\n".join([*lines, ""])


def summary(outcomes: Sequence[Outcome]) -> str:
    """`2 of 3 models passed, 1 failed`."""
    counts = {status: sum(one.status == status for one in outcomes) for status in MARKS}
    few = "model" if len(outcomes) == 1 else "models"
    others = [
        f"{count} {words}"
        for status, words in (
            ("failed", "failed"),
            ("undecided", "undecided"),
            ("error", "did not get to an end"),
        )
        if (count := counts[status])
    ]
    return ", ".join([f"{counts['passed']} of {len(outcomes)} {few} passed", *others])


def _row(outcome: Outcome) -> tuple[str, ...]:
    model, seen = outcome.model, outcome.validation or {}
    score = next(iter(seen.get("scores") or ()), None)
    latency = (seen.get("latency") or {}).get("ratio")
    place = seen.get("placement")
    mapped = NOTHING
    if place and place["device"].lower() != "cpu":
        mapped = f"{place['on_device']}/{place['ops']}"
    unit = "points" if score and score["unit"] == PERCENT else score["unit"] if score else ""
    return (
        _plain(outcome.name),
        f"{MARKS[outcome.status]} {outcome.status}",
        size_words(model["size"]) if model else NOTHING,
        f"{score['metric']} {interval(score['candidate'], score['unit'])}" if score else NOTHING,
        interval(score["difference"], unit, sign=True) if score else NOTHING,
        f"{interval(latency)} times" if latency else NOTHING,
        mapped,
    )


def interval(one: Mapping[str, Any] | None, unit: str = "", sign: bool = False) -> str:
    if one is None:
        return NOTHING
    shown = "+.4g" if sign else ".4g"
    value = f"{one['value']:{shown}}{' ' + unit if unit else ''}"
    return f"{value} [{one['low']:.4g}, {one['high']:.4g}]" if one.get("level") else value


def _details(outcome: Outcome) -> str:
    model = outcome.model
    lines = ["", f"<details><summary>{_plain(outcome.name)}</summary>", ""]
    if outcome.gates:
        rows = [
            (
                MARKS[gate["verdict"]],
                f"`{gate['name']}`",
                *map(_plain, (gate["limit"], gate["seen"], gate["words"])),
            )
            for gate in outcome.gates
        ]
        lines += [*_table(("", "gate", "limit", "seen", ""), rows), ""]
    if outcome.steps:
        rows = [
            (
                f"`{step['stage']}`",
                _plain(route),
                step["status"],
                f"{step['seconds']:.1f} s",
                _plain(_said_of(step)),
            )
            for route, step in outcome.steps
        ]
        lines += [*_table(("step", "route", "", "time", ""), rows), ""]
    if outcome.error is not None:
        lines += [f"**{outcome.error['error']}**: {_plain(str(outcome.error['message']))}", ""]
        if outcome.error.get("hint"):
            lines += [_plain(str(outcome.error["hint"])), ""]
    if model:
        lines += [f"sha256 `{model['sha256']}`", ""]
    return "\n".join([*lines, "</details>", ""])


def _said_of(step: Mapping[str, Any]) -> str:
    if step["error"]:
        return str(step["error"]["message"]).splitlines()[0]
    proof = step.get("proof")
    return f"{proof['sqnr_db']:.0f} dB" if proof and not proof.get("not_run") else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(words: str) -> str:
    """Text that stays text: no cell ends early, no tag begins, nobody is mentioned."""
    one_line = re.sub(r"\s+", " ", words).strip()
    safe = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~@])", lambda found: f"&#{ord(found[0])};", safe)


def _cut(text: str, most: int) -> str:
    """Of so many models that the table alone is too long, whole lines."""
    note = "\n\nThe rest is too long to show here.\n"
    return text[: most - len(note)].rpartition("\n")[0] + note
