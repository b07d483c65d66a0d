"""Boards' results as tables for the terminal: what each gave, and what a sweep found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Sequence[str]
HEAD = ("device", "model", "delegate", "threads", "beside the host", "accuracy", "p50 ms", "p99 ms",
        "MiB", "verdict")  # fmt: skip
NUMBERS = ("p50 ms", "p99 ms", "MiB")
_WHERE_THEY_VARY = ("delegate", "threads")


def table(entries: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[Row]]:
    """Head and rows; settings have a column only where they aren't the same in all rows."""
    found = rows(entries)
    kept = [
        place
        for place, name in enumerate(HEAD)
        if name not in _WHERE_THEY_VARY or len({row[place] for row in found}) > 1
    ]
    return [HEAD[place] for place in kept], [[row[place] for place in kept] for row in found]


def rows(entries: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One for each model on each board; `entries` are those of report.json."""
    found: list[Row] = []
    for entry in entries:
        if "error" in entry:
            found.append([entry["name"], "", "", "", "", "", "", "", "", "failed"])
            continue
        settings = entry["settings"]
        for model in entry["models"]:
            threads = str(settings["threads"] or "own")
            start = [entry["name"], model["model"], settings["delegate"], threads]
            found.append([*start, *_figures(entry, model)])
    return found


def _figures(entry: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    if "error" in model:
        return ["", "", "", "", "", "failed"]
    latency = model.get("latency")
    p50, p99 = (f"{latency[name] * 1e3:.3g}" if latency else "-" for name in ("p50", "p99"))
    memory = model.get("memory")
    verdicts = {check["verdict"] for check in model["checks"]}
    verdict = next((each for each in ("failed", "undecided") if each in verdicts), "passed")
    size = f"{memory['growth'] / (1 << 20):.1f}" if memory else "-"
    return [agreement(model), _accuracy(model.get("accuracy")), p50, p99, size, verdict]


def agreement(model: Mapping[str, Any]) -> str:
    """How far the outputs are from the host's, at worst."""
    hosts = [output["host"] for output in model["outputs"].values() if "host" in output]
    if not hosts:
        return "-"
    share = sum(each["differing"] for each in hosts) / max(1, sum(e["elements"] for e in hosts))
    if not share:
        return "same"
    steps = [each["most_steps"] for each in hosts if each["most_steps"] is not None]
    far = f"{max(steps)} steps" if steps else f"{min(e['sqnr_db'] for e in hosts):.0f} dB"
    return f"{share:.1%} differ, {far}"


def _accuracy(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "-"
    low, high = found["interval"]
    return f"{100 * found['device']:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def notes(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """What a table can't say."""
    told = []
    for entry in entries:
        if "error" in entry:
            told.append(f"{entry['name']}: {entry['error']}")
            continue
        for model in entry["models"]:
            if "error" in model:
                error = model["error"]
                hint = f" → {error['hint']}" if error["hint"] else ""
                told.append(f"{entry['name']}, {model['model']}: {error['message']}{hint}")
            told += [
                f"{entry['name']}, {model['model']}, {check['check']}: {check['words']}"
                for check in model["checks"]
                if check["verdict"] in ("failed", "undecided") and "error" not in model
            ]
        told += [_clock(entry)] if _clock(entry) else []
        if entry["emulated"]:
            told.append(
                f"{entry['name']} is emulated: its numbers are the processor's, its memory holds"
                " the emulator's, and its latency would say nothing"
            )
    return list(dict.fromkeys(told))


def _clock(entry: Mapping[str, Any]) -> str:
    board = entry["board"]
    if entry["emulated"] or not board.get("governor"):
        return ""
    most = board.get("khz_most", "")
    of = f" of {int(most) / 1e3:.0f}" if most.isdigit() else ""
    now = f", {int(board['khz']) / 1e3:.0f}{of} MHz" if board.get("khz", "").isdigit() else ""
    return f"{entry['name']}: governor {board['governor']}{now}"
