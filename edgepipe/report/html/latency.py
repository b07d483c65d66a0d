"""Latency as distributions of both sides, the ratio with its interval, energy beside it."""

from __future__ import annotations

from collections.abc import Sequence

from edgepipe.report.html import distributions, plots, wording
from edgepipe.report.html.accuracy import NUMBER
from edgepipe.report.html.markup import Child, Html, el
from edgepipe.report.html.plots import Line, Mark, Series
from edgepipe.report.html.tables import Cell, Column, plain
from edgepipe.report.html.view import Data, View

TITLE = "Latency and energy"
PERCENTILES = ("p50", "p90", "p95", "p99", "mean")


def section(view: View) -> list[Html] | None:
    found = view.part("latency")
    parts: list[Html] = []
    speed = view.chosen.get("speed") if view.chosen else None
    if speed:  # OpenVINO's int8 beside its float IR, which convert itself measures.
        parts.append(el("p", speed["words"]))
    if found:
        parts += [_plots(view, found), _table(found), *_throughput(found), *_machine(found)]
    elif view.absent("latency"):
        parts.append(el("p", f"Latency was not measured: {view.absent('latency')}"))
    energy = view.part("energy")
    if energy:
        parts += [el("h3", "Energy"), _energy(energy)]
    elif parts and view.absent("energy"):
        parts.append(el("p", f"Energy was not measured: {view.absent('energy')}"))
    return parts or None


def _sides(found: Data) -> list[tuple[str, Data, str]]:
    every = (("float", found.get("baseline"), "float"), ("deployed", found["candidate"], "mine"))
    return [(label, side, kind) for label, side, kind in every if side]


def _plots(view: View, found: Data) -> Html:
    series = [Series(label, side["times"], kind) for label, side, kind in _sides(found)
              if len(side.get("times") or ()) > 1]  # fmt: skip
    figures: list[Html] = []
    if found.get("ratio"):
        told = wording.interval(found["ratio"], wording.TIMES)
        line = Line("to float", found["ratio"], told, "difference")
        marks = [Mark(1.0, "as fast", "equal"), *_limits(view)]
        figures.append(
            el(
                "figure",
                plots.intervals(
                    "Ratio of the latencies, of interleaved runs", [line], marks, ratios=True
                ),
                el("figcaption", "Below 1 is faster. Runs of both sides took turns, so that a "
                   "busy machine widens the interval and moves nothing."),
            )
        )  # fmt: skip
    if series:
        often = distributions.histogram("Distribution of the latency", series, wording.seconds)
        done = distributions.ecdf("Share of the runs done by a time", series, wording.seconds)
        figures += [
            el("figure", often, el("figcaption", "How often each time came.")),
            el("figure", done, el("figcaption", _key(series), "Share of the runs done by then.")),
        ]
    return el("div", figures, class_="figures")


def _key(series: Sequence[Series]) -> list[Html]:
    return [el("span", one.label, class_=f"key {one.kind}") for one in series]


def _limits(view: View) -> list[Mark]:
    for gate in view.part("gates") or ():
        number = NUMBER.search(gate["limit"])
        if gate["name"] == "max-latency-ratio" and number:
            return [Mark(float(number.group()), f"limit {gate['limit']}", "limit")]
    return []


def _table(found: Data) -> Html:
    rows: list[list[Child | Cell]] = []
    for label, side, _ in _sides(found):
        times = [Cell(wording.seconds(side[key]), side[key]) for key in PERCENTILES]
        rows.append([label, *times, f"{side['runs']:,}", wording.seconds(side.get("cold")),
                     wording.seconds(side.get("load"))])  # fmt: skip
    columns = [Column("Side"), *(Column(one, True) for one in PERCENTILES), Column("Runs", True),
               Column("First run", True), Column("Loading", True)]  # fmt: skip
    return plain("Latency of one inference", columns, rows)


def _throughput(found: Data) -> list[Html]:
    rows: list[list[Child | Cell]] = [
        [label, str(one["threads"]), str(one["batch"]), wording.number(one["per_second"])]
        for label, side, _ in _sides(found)
        for one in side.get("throughput") or ()
    ]
    numbers = ("Threads", "Batch", "Inferences a second")
    columns = [Column("Side"), *(Column(one, True) for one in numbers)]
    return [plain("Throughput", columns, rows)] if rows else []


def _machine(found: Data) -> list[Html]:
    said = [(str(name).replace("_", " "), value) for name, value in found["machine"].items()
            if value not in (None, "", [], {})]  # fmt: skip
    parts = [el("p", note) for note in found.get("notes") or ()]
    if said:
        parts.append(
            el(
                "dl",
                [
                    el("div", el("dt", name), el("dd", wording.plainly(value)))
                    for name, value in said
                ],
                class_="facts",
            )
        )
    return parts


def _energy(found: Data) -> Html:
    lines = [Line(label, found[key], wording.interval(_milli(found[key]), "mJ"), kind)
             for label, key, kind in (("float", "baseline", "float"),
                                      ("deployed", "candidate", "mine"))
             if found.get(key)]  # fmt: skip
    return el(
        "figure",
        plots.intervals("Energy of one inference", lines, words=lambda one: f"{one * 1000:.3g}"),
        el("figcaption", f"Millijoules for one inference, read from {found['source']}."),
    )


def _milli(found: Data) -> Data:
    return {key: found[key] * 1000 for key in ("value", "low", "high")}
