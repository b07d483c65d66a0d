"""The few figures that most readers came for, as tiles under the verdict."""

from __future__ import annotations

from edgepipe.report.html import wording
from edgepipe.report.html.markup import Html, el
from edgepipe.report.html.verdict import nearness
from edgepipe.report.html.view import View

Tile = tuple[str, str, str]


def section(view: View) -> Html | None:
    tiles = [tile for tile in (_size(view), *_quality(view), _latency(view), _memory(view),
                               _mapped(view), _time(view)) if tile]  # fmt: skip
    if not tiles:
        return None
    return el(
        "dl",
        [
            el("div", el("dt", name), el("dd", value, el("small", below) if below else None))
            for name, value, below in tiles
        ],
        class_="tiles",
    )


def _size(view: View) -> Tile | None:
    if not view.outputs:
        found = view.part("candidate") or {}
        return ("Size", wording.size(found["size"]), "") if found.get("size") else None
    last, first = view.outputs[-1]["size"], view.outputs[0]["size"]
    below = f"{last / first:.0%} of {wording.size(first)}" if len(view.outputs) > 1 else ""
    return "Size", wording.size(last), below


def _quality(view: View) -> list[Tile]:
    tiles: list[Tile] = []
    scores = view.part("scores") or ()
    for score in scores[:2]:
        unit = score.get("unit", "")
        below = f"{wording.plural(score['samples'], 'sample')}"
        if score.get("difference"):
            change = wording.with_unit(score["difference"]["value"], unit, sign=True)
            below = f"{change} against float, {below}"
        tiles.append((score["metric"], wording.with_unit(score["candidate"]["value"], unit), below))
    proof = view.proof
    if proof is None:
        return tiles
    accuracy = proof.get("accuracy")
    if accuracy and not scores:
        below = f"float {wording.percent(accuracy['float'])}"
        tiles.append(("Accuracy", wording.percent(accuracy["quantized"]), below))
    against = "to the float model" if proof.get("quantized") else "to the model given"
    return [*tiles, ("Signal to noise", wording.decibels(nearness(proof)), against)]


def _latency(view: View) -> Tile | None:
    found = view.part("latency")
    if found:
        ratio = found.get("ratio")
        below = f"{wording.number(ratio['value'])} of float's" if ratio else "median"
        return "Latency", wording.seconds(found["candidate"]["p50"]), below
    if view.chosen and view.chosen.get("latency_ms") is not None:
        return "Latency", wording.seconds(view.chosen["latency_ms"] / 1000), "one thread, this CPU"
    return None


def _memory(view: View) -> Tile | None:
    found = view.part("memory")
    if found and found.get("arena"):
        return "Tensor arena", wording.size(found["arena"]), ""
    vela = view.vela
    return ("SRAM", wording.size(vela.sram_bytes), "foretold by Vela") if vela else None


def _mapped(view: View) -> Tile | None:
    placed = view.part("placement")
    if placed:
        return f"On {placed['device']}", f"{placed['on_device']} of {placed['ops']}", "operators"
    vela = view.vela
    if vela:
        return "On the NPU", f"{vela.on_npu} of {vela.ops}", "operators"
    chip = view.edgetpu[0] if view.edgetpu else None
    if chip is None:
        return None
    if not chip["compiled"]:
        told = chip["foretold"]
        return "On the Edge TPU", f"{told['mapped']} of {told['mapped'] + told['cpu']}", "foretold"
    model = chip["models"][0]
    mapped, left = (sum(model.get(key, {}).values()) for key in ("mapped", "unmapped"))
    return (
        ("On the Edge TPU", f"{mapped} of {mapped + left}", "operators") if mapped + left else None
    )


def _time(view: View) -> Tile | None:
    if "seconds" not in view.report:
        return None
    kept = bool(view.steps) and all(step["status"] == "kept" for step in view.steps)
    below = "everything was kept" if kept else ""
    return "This run took", wording.seconds(view.report["seconds"]), below
