"""Memory over the operators: what has to be there at each, int8 beside float."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgepipe.artifact import digest_file
from edgepipe.errors import EdgepipeError
from edgepipe.report.html import plots, wording
from edgepipe.report.html.markup import Html, el
from edgepipe.report.html.plots import Series
from edgepipe.report.html.view import Data, View

TITLE = "Memory over the operators"


@dataclass(frozen=True)
class Curve:
    """Bytes of activations at each operator of the main graph."""

    file: str
    live: list[int]
    peak: int
    where: str
    whole: bool


def section(view: View) -> list[Html] | None:
    parts = _process(view)
    files = [one for one in view.outputs if str(one["path"]).endswith(".tflite")
             and one["format"] in ("tflite", "tflite-quantized")][-2:]  # fmt: skip
    curves = [curve for one in files if (curve := _curve(view, one)) is not None]
    if curves:
        parts += _drawn(curves)
    elif files:
        parts.append(el("p", "The curve over the operators is drawn where the model's file lies "
                        "beside the report, unchanged.", class_="muted"))  # fmt: skip
    return parts or None


def _curve(view: View, item: Data) -> Curve | None:
    from edgepipe.cost import of_tflite
    from edgepipe.cost.memory import Memory

    if view.folder is None:
        return None
    path: Path = view.folder / item["path"]
    # The report may have been moved: a name in it leads nowhere but to its own folder.
    if Path(item["path"]).name != item["path"] or not path.is_file():
        return None
    try:
        if not view.fresh and digest_file(path) != item["sha256"]:
            return None
        network = of_tflite.read(path)
        memory = Memory(network)
    except (EdgepipeError, OSError):
        return None
    live = [memory.live.get(node) or 0 for node in network.graphs[0].nodes]
    node, peak = memory.peak.node, memory.peak
    where = f"{node.kind} {node.name}" if node else ""
    return Curve(item["path"], live, peak.nbytes, where, peak.whole) if live else None


def _drawn(curves: list[Curve]) -> list[Html]:
    kinds = ["mine"] if len(curves) == 1 else ["float", "mine"]
    series = [Series(curve.file, curve.live, kind)
              for curve, kind in zip(curves, kinds, strict=True)]  # fmt: skip
    told = [
        f"{curve.file}: {'' if curve.whole else 'at least '}{wording.size(curve.peak)} at the "
        f"worst, {curve.where}."
        for curve in curves
    ]
    plot = plots.memory(TITLE, series, wording.size, " ".join(told))
    return [
        el(
            "figure",
            el("div", plot, class_="scroll", role="region", tabindex=0, aria_label=TITLE),
            el("figcaption", [el("p", line) for line in told]),
        ),
        el("p", "Tensors that are made and still read, nothing shared and nothing in place: what "
           "a planner needs at least. Weights are not in it.", class_="muted"),
    ]  # fmt: skip


def _process(view: View) -> list[Html]:
    found = view.part("memory")
    if not found:
        why = view.absent("memory")
        return [el("p", f"Memory was not measured: {why}")] if why else []
    said = (
        ("Growth of the process", found.get("process")),
        ("Float's", found.get("process_baseline")),
        ("Tensor arena", found.get("arena")),
    )
    return [
        el(
            "dl",
            [el("div", el("dt", name), el("dd", wording.size(value)))
             for name, value in said if value is not None],
            class_="facts",
        )
    ]  # fmt: skip
