"""`edgepipe.advise`: which targets suit a model, and what keeps the others from fitting."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepipe.errors import EdgepipeError, MissingError, OptionError
from edgepipe.process_memory import words
from edgepipe.report import compiled, ethosu
from edgepipe.report.target_row import MEASURED, TargetRow
from edgepipe.several_targets import TargetResults, convert_targets
from edgepipe.story import Listener
from edgepipe.targets.edgetpu.preflight import SECOND

TARGETS = ("tflite", "openvino", "edgetpu", "ethos-u55-256", "ethos-u65-512", "ethos-u85-512")
FITS, PARTLY, NO, UNTRIED = "fits", "partly", "no", "not tried"
LOST = 0.01
"""Share of right answers that int8 may lose."""
CHANGED = 0.05
"""Share of answers that may change, where no labels say whether they were right."""
CHANCE = 0.05
"""What is likelier than this without any loss is no loss: coins fall unevenly, too."""
FORETOLD = "its mapping is foretold and its latency estimated, it was not compiled"
SHOWN = 4
"""Reasons of a kind that are told; `edgepipe preflight` shows each operator."""


@dataclass(frozen=True)
class Verdict:
    """`verdict`: fits, partly (it runs there, with what `why` says), no, or not tried."""

    target: str
    verdict: str
    why: tuple[str, ...]
    row: TargetRow

    def to_json(self) -> dict[str, Any]:
        return {**self.row.to_json(), "verdict": self.verdict, "why": list(self.why)}


@dataclass(frozen=True)
class Advice:
    """In the order in which the targets were asked for."""

    verdicts: tuple[Verdict, ...]
    random: bool
    """The data were noise, so that agreement and accuracy say nothing."""

    @property
    def fitting(self) -> list[Verdict]:
        """The fastest first; what has no latency last."""
        found = [one for one in self.verdicts if one.verdict == FITS]
        return sorted(found, key=lambda one: (one.row.latency_ms is None, one.row.latency_ms or 0))

    def words(self) -> list[str]:
        """The advice in sentences."""
        found = []
        fitting = self.fitting
        if fitting:
            named = ", ".join(f"{one.target}{_latency(one.row)}" for one in fitting)
            found.append(f"fits, the fastest first: {named}")
        else:
            found.append("fits none as it is")
        if len({one.row.latency_is for one in fitting if one.row.latency_is}) > 1:
            found.append(
                "measured is on this machine's processor, not a board's, and estimates err by tens"
                " of percent: only large differences rank"
            )
        for line, targets in self._reasons().items():
            found.append(f"{', '.join(targets)}: {line}")
        if self.random:
            found.append("random data: agreement with float means nothing for your data")
        return found

    def _reasons(self) -> dict[str, list[str]]:
        """Each once, with the targets that it holds for."""
        found: dict[str, list[str]] = {}
        for one in self.verdicts:
            for line in one.why:
                found.setdefault(line, []).append(one.target)
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "fitting": [one.target for one in self.fitting],
            "random": self.random,
            "targets": [one.to_json() for one in self.verdicts],
            "words": self.words(),
        }


def advise(
    model: str | Path,
    data: str | Path = "",
    *,
    targets: Sequence[str] = TARGETS,
    out: str | Path | None = None,
    listener: Listener | None = None,
    **arguments: Any,
) -> Advice:
    """Convert a model in int8 for every target and weigh what came of it.

    `data` is calibrated on, and a part that is held out is judged on. What lacks on this machine
    is a verdict of its target, not an error. With `out` the models are kept.
    """
    if not str(data):
        raise OptionError(
            "advise needs samples of what the model is fed: int8 is fitted to them and judged on"
            " them",
            hint="give 100 or more with --data DATA; --data random goes through without, and its"
            " agreement with float means nothing.",
        )
    said = {**arguments, "precision": "int8", "calibration": data}
    with tempfile.TemporaryDirectory(prefix="edgepipe-advise-") as scratch:
        folder = Path(out) if out is not None else Path(scratch) / "out"
        found = convert_targets(model, targets, listener=listener, out=folder, **said)
        verdicts = tuple(_verdict(row, found) for row in found.rows)
    if all(one.verdict == UNTRIED for one in verdicts):
        found.check()  # There is no advice to give.
    return Advice(verdicts, str(data) == "random")


def _verdict(row: TargetRow, found: TargetResults) -> Verdict:
    error = found.errors.get(row.target)
    if error is not None and row.size is None:
        kind = UNTRIED if isinstance(error, MissingError) else NO
        return Verdict(row.target, kind, tuple(_failed(error, kind)), row)
    text = (found.folder / row.target / "report.json").read_text(encoding="utf-8")
    why = [*_off_chip(row, json.loads(text)), *_lost(row)]
    if row.streamed_bytes:
        why.append(f"{words(row.streamed_bytes)} of its parameters are streamed at every inference")
    verdict = PARTLY if why else FITS
    if row.accelerated == 0:
        verdict = NO
    if row.mapping == "foretold":
        why.append(f"{FORETOLD}: {error.message.rpartition(': ')[2] if error else 'as was asked'}")
    return Verdict(row.target, verdict, tuple(why), row)


def _failed(error: EdgepipeError, kind: str) -> list[str]:
    """Of several routes the first one's reason: they mostly fail for the same."""
    first, *routes = error.message.splitlines()
    told = [first.rstrip(":")]
    if routes:
        more = f"; {len(routes) - 1} more in the report" if len(routes) > 1 else ""
        told.append(f"{routes[0].strip()}{more}")
    return [*told, error.hint] if kind == UNTRIED and error.hint else told


def _off_chip(row: TargetRow, report: Mapping[str, Any]) -> list[str]:
    if row.accelerated is None or row.ops is None or row.accelerated == row.ops:
        return []
    found = [f"{row.ops - row.accelerated} of {row.ops} ops stay on the CPU"]
    vela = ethosu.figures_of(report)
    if vela is not None:
        return [*found, *ethosu.told(vela.fallbacks)]
    facts = report[compiled.KEY]
    if facts["compiled"]:
        left = facts["models"][0].get("unmapped", {})
        return [*found, *(f"on the CPU: {count} {op}" for op, count in left.items())]
    foretold = facts["foretold"]
    found += [f"the compiler refuses the model: {reason}" for reason in foretold["refused"]]
    unmapped = [one for one in foretold["ops"] if not one["mapped"]]
    causes = [one for one in unmapped if one["status"] != SECOND]
    groups = Counter((one["op"], one["status"], one["fix"]) for one in causes)
    for (op, status, fix), count in groups.most_common(SHOWN):
        found.append(f"on the CPU: {count} {op}: {status}" + (f" → {fix}" if fix else ""))
    if len(causes) < len(unmapped):
        found.append(f"on the CPU: {len(unmapped) - len(causes)} ops after these: {SECOND}")
    return found


def _lost(row: TargetRow) -> list[str]:
    if row.accuracy is not None:
        return _lost_answers(row.accuracy)
    if row.argmax_agreement is not None and row.argmax_agreement < 1 - CHANGED:
        return [f"int8 answers as float does in only {row.argmax_agreement:.1%} of the samples"]
    return []


def _lost_answers(found: Mapping[str, Any]) -> list[str]:
    """Of the samples on which only one of both is right, as many should be float's as int8's."""
    before, after, samples = found["float"], found["quantized"], found["samples"]
    if before - after <= LOST:
        return []
    only_float, only_int8 = found["only_float_right"], found["only_quantized_right"]
    differing = only_float + only_int8
    chance = sum(math.comb(differing, k) for k in range(only_float, differing + 1)) / 2**differing
    figures = f"{before:.1%} right before, {after:.1%} after, on {samples} held-out samples"
    if chance > CHANCE:
        return [f"int8 may lose accuracy, too few samples to tell: {figures}"]
    return [f"int8 loses accuracy: {figures}"]


def _latency(row: TargetRow) -> str:
    if row.latency_ms is None:
        return ""
    where = "measured here" if row.latency_is == MEASURED else row.latency_is
    return f" ({row.latency_ms:.3g} ms, {where})"
