"""Memory over the operators: what has to be there at each, int8 beside float."""

from __future__ import annotations

from pathlib import Path

from edgepipe.artifact import digest_file
from edgepipe.report import activations
from edgepipe.report.html import plots, wording
from edgepipe.report.html.markup import Html, el
from edgepipe.report.html.plots import Series
from edgepipe.report.html.view import Data, View

TITLE = "Memory over the operators"


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


def _curve(view: View, item: Data) -> Data | None:
    """As the run wrote it down, or of the file, if that is still the one of the report."""
    kept = [one for one in view.report.get("activations", ()) if one["path"] == item["path"]]
    if kept:
        first: Data = kept[0]
        return first
    if view.folder is None:
        return None
    path: Path = view.folder / item["path"]
    # The report may have been moved: a name in it leads nowhere but to its own folder.
    if Path(item["path"]).name != item["path"] or not path.is_file():
        return None
    try:
        if digest_file(path) != item["sha256"]:
            return None
        found = activations.of_file(path)
    except OSError:
        return None
    return {"path": item["path"], **found} if found["live"] else None


def _drawn(curves: list[Data]) -> list[Html]:
    kinds = ["mine"] if len(curves) == 1 else ["float", "mine"]
    series = [Series(curve["path"], curve["live"], kind)
              for curve, kind in zip(curves, kinds, strict=True)]  # fmt: skip
    told = [
        f"{curve['path']}: {'' if curve['whole'] else 'at least '}{wording.size(curve['peak'])} "
        f"at the worst, {curve['at']}."
        for curve in curves
    ]
    ops = max(curve["ops"] for curve in curves)
    plot = plots.memory(TITLE, series, ops, wording.size, " ".join(told))
    return [
        el(
            "figure",
            el("div", plot, class_="scroll", role="region", tabindex=0, aria_label="Memory curve"),
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
