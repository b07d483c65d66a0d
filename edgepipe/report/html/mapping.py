"""Which device each operator runs on: as measured, compiled, or foretold by preflight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from edgepipe.report.html import plots, wording
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.tables import Cell, Column, barred, plain, sortable
from edgepipe.report.html.view import Data, View

TITLE = "Where each operator runs"
Row: TypeAlias = "Sequence[Child | Cell]"


def section(view: View) -> list[Html] | None:
    parts = [
        *_placed(view),
        *(part for one in view.edgetpu for part in _edgetpu(one)),
        *_ethosu(view),
    ]
    return parts or None


def _strip(
    kinds: Sequence[str], words: str, here: str = "on the chip", there: str = "on the CPU"
) -> Html:
    keys = [("mine", here), ("cpu", there)]
    key = [el("span", said, class_=f"key {kind}") for kind, said in keys if kind in kinds]
    plot = plots.strip("Operators by device", kinds, words)
    return el("figure", plot, el("figcaption", key, words))


def _placed(view: View) -> list[Html]:
    """What a run on the device was seen to do."""
    found = view.part("placement")
    if not found:
        why = view.absent("placement")
        return [el("p", f"What ran where was not read: {why}")] if why else []
    parts = [el("p", el("strong", "It fell back: "), found["fell_back"], class_="warning")
             if found.get("fell_back") else Html("")]  # fmt: skip
    words = f"{found['on_device']} of {found['ops']} operators ran on {found['device']}."
    rows = found.get("rows") or ()
    if not rows:
        return [*parts, el("p", words)]
    device = str(found["device"]).lower()
    kinds = ["mine" if str(one.get("device", "")).lower() == device else "cpu" for one in rows]
    longest = max((one.get("seconds") or 0.0 for one in rows), default=0.0)
    table: list[Row] = [
        [
            el("code", one.get("name", "")),
            one.get("op", ""),
            Cell(str(at), at),
            str(one.get("device", "")),
            *([_time(one.get("seconds"), longest)] if longest else []),
        ]
        for at, one in enumerate(rows)
    ]
    columns = [Column("Operator"), Column("Type"), Column("Place", True), Column("Device"),
               *([Column("Time", True)] if longest else [])]  # fmt: skip
    return [*parts, _strip(kinds, words, str(found["device"]), "elsewhere"),
            sortable("Operators as they ran", columns, table)]  # fmt: skip


def _time(seconds: float | None, longest: float) -> Cell:
    if not seconds or not longest:
        return Cell(wording.seconds(seconds), seconds)
    return Cell(barred(seconds / longest, wording.seconds(seconds)), seconds)


def _edgetpu(facts: Data) -> list[Html]:
    if not facts["compiled"]:
        told = f"Not compiled: {facts['why']}. " if facts.get("why") else ""
        return _foretold(facts["foretold"], told)
    parts: list[Html] = []
    for model in facts["models"]:
        mapped, left = model.get("mapped", {}), model.get("unmapped", {})
        total, on_chip = sum(mapped.values()) + sum(left.values()), sum(mapped.values())
        parts.append(
            el(
                "p",
                f"{on_chip} of {total} operators were mapped by edgetpu_compiler "
                f"{facts['compiler']['version']}; {wording.size(model['cached_bytes'])} of "
                f"parameters are cached on the chip, {wording.size(model['streamed_bytes'])} "
                f"streamed at every inference.",
            )
        )
        said: list[dict[str, Any]] = (model.get("said") or {}).get("rows") or []
        rows: list[Row] = [
            [one["op"], Cell(str(one["count"]), one["count"]), one["status"]] for one in said
        ] or [
            *([op, Cell(str(count), count), "mapped"] for op, count in mapped.items()),
            *([op, Cell(str(count), count), "on the CPU"] for op, count in left.items()),
        ]
        columns = [Column("Operator"), Column("Count", True), Column("What the compiler said")]
        parts.append(sortable(f"Operators of {model['file']}", columns, rows))
    if facts.get("not_run"):
        parts.append(el("p", facts["not_run"], class_="muted"))
    return parts


def _foretold(foretold: Data, told: str) -> list[Html]:
    ops = foretold.get("ops") or ()
    total = foretold["mapped"] + foretold["cpu"]
    words = f"{told}{foretold['mapped']} of {total} operators are foretold as mapped."
    rows: list[Row] = [
        [
            el("code", one["output"]),
            one["op"],
            Cell(str(one["index"]), one["index"]),
            "chip" if one["mapped"] else "CPU",
            one["status"] if one["mapped"] else one.get("rule") or one["status"],
            one.get("fix") or "",
        ]
        for one in ops
    ]
    parts = [_strip(["mine" if one["mapped"] else "cpu" for one in ops],
                    words) if ops else el("p", words)]  # fmt: skip
    parts += [el("p", el("strong", "Refused as a whole: "), why, class_="warning")
              for why in foretold.get("refused", ())]  # fmt: skip
    columns = [Column("Operator"), Column("Type"), Column("Place", True), Column("Where"),
               Column("Why"), Column("What helps")]  # fmt: skip
    return [*parts, sortable("Operators as foretold", columns, rows)] if rows else parts


def _ethosu(view: View) -> list[Html]:
    found = view.vela
    if found is None:
        return []
    parts = [el("p", f"{found.on_npu} of {found.ops} operators on the {found.accelerator}. "
                "Cycles are an estimate of Vela's, not a measurement.")]  # fmt: skip
    if found.fallbacks:
        rows: list[list[Child | Cell]] = [
            [el("code", one.output), one.op, one.constraint or one.reason or "Vela does not say"]
            for one in found.fallbacks
        ]
        parts.append(plain("Left on the CPU", ["Operator", "Type", "Why"], rows))
    layers = found.layers
    if not layers:
        return parts
    most = max(one.cycles for one in layers) or 1
    table: list[Row] = [
        [
            el("code", one.name),
            one.op,
            Cell(str(at), at),
            Cell(barred(one.cycles / most, f"{one.cycles:,}"), one.cycles),
            Cell(f"{one.macs:,}", one.macs),
            Cell(wording.size(one.staging_bytes), one.staging_bytes),
        ]
        for at, one in enumerate(layers)
    ]
    columns = [Column("Layer"), Column("Type"), Column("Place", True), Column("Cycles", True),
               Column("MACs", True), Column("SRAM", True)]  # fmt: skip
    return [*parts, sortable("Layers as Vela scheduled them", columns, table)]
