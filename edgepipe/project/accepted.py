"""`baseline.json`: what was accepted of each model, small and in an order that diffs well."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepipe import delivery
from edgepipe.errors import OptionError
from edgepipe.report.outcome import Outcome

NAME = "baseline.json"
SCHEMA = 1
DIGITS = 6
"""Significant ones: a figure that was measured again differs in the later ones only."""
TIMES = 40
"""Latencies that are kept where no float model ran beside, as the middle is judged by them."""
SCORE = ("metric", "output", "unit", "samples", "candidate", "difference", "kept")


def read(folder: Path) -> dict[str, Any]:
    """By model; empty where nothing was accepted yet."""
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema, models = document["schema"], document["models"]
        known = {str(name): dict(entry) for name, entry in models.items()}
        sources = [entry["source"]["sha256"] for entry in known.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OptionError(
            f"{path} is no file of `edgepipe check --accept`: {error!r}",
            hint="bring it back from version control, or take it away and accept again.",
        ) from error
    if schema != SCHEMA or not all(isinstance(one, str) for one in sources):
        raise OptionError(
            f"{path} is of schema {schema!r}, expected {SCHEMA}",
            hint="another version of edgepipe wrote it; accept again with this one.",
        )
    return known


def write(folder: Path, known: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> Path:
    """The entries of these outcomes, over those that are there."""
    models = {**known, **{name: entry(one) for name, one in outcomes.items()}}
    document = {"schema": SCHEMA, "models": dict(sorted(models.items()))}
    return delivery.write_text(folder / NAME, json.dumps(document, indent=1) + "\n")


def entry(outcome: Outcome) -> dict[str, Any]:
    """What later runs are judged by, in the form that a validation's document has."""
    report, seen = outcome.report or {}, outcome.validation or {}
    model = seen.get("candidate") or outcome.model or {}  # A chip's stand-in is what was judged.
    found: dict[str, Any] = {
        "source": {"sha256": report["source"]["sha256"]},
        "candidate": {"sha256": model.get("sha256"), "size": model.get("size")},
    }
    for part, names in (("baseline", ("sha256",)), ("data", ("digest", "samples", "truth"))):
        if seen.get(part):
            found[part] = {name: seen[part].get(name) for name in names if name in seen[part]}
    if seen.get("scores"):
        found["scores"] = [
            {name: score[name] for name in SCORE if score.get(name) not in (None, "")}
            for score in seen["scores"]
        ]
    if seen.get("latency"):
        found["latency"] = _latency(seen["latency"])
    if seen.get("memory"):
        found["memory"] = {name: seen["memory"].get(name) for name in ("process", "arena")}
    if seen.get("placement"):
        found["placement"] = {name: seen["placement"][name] for name in ("on_device", "ops")}
    compiled = (report.get("edgetpu") or {}).get("models") or [{}]
    if "streamed_bytes" in compiled[0]:
        found["streamed_bytes"] = compiled[0]["streamed_bytes"]
    rounded: dict[str, Any] = _rounded(found)
    return rounded


def _latency(latency: Mapping[str, Any]) -> dict[str, Any]:
    """The ratio takes the machine out; without one the times are of this machine alone."""
    if latency.get("ratio"):
        return {"ratio": latency["ratio"]}
    # In their order: their interval is of stretches, which hold bursts of other work together.
    times = latency["candidate"]["times"]
    step = max(1, math.ceil(len(times) / TIMES))
    return {
        "machine": {"cpu": (latency.get("machine") or {}).get("cpu")},
        "candidate": {"p50": latency["candidate"]["p50"], "times": times[step // 2 :: step]},
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def require_same_model(folder: Path, name: str, entry: Mapping[str, Any], digest: str) -> None:
    """Figures of another model say nothing about this one, unless that is asked."""
    then = str(entry["source"]["sha256"])
    if then != digest:
        raise OptionError(
            f"{folder / NAME} accepted another model as {name!r}: its file had the SHA-256"
            f" {then[:12]}…, and has {digest[:12]}… now",
            hint=f"if it was trained again on purpose: `edgepipe check {name} --accept`; to judge"
            " it by the figures of the other one: --across-models.",
        )
