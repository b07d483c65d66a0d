"""What the report says of compiling for the Edge TPU: what came of it, or what was foretold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepipe import process_memory
from edgepipe.artifact import Format
from edgepipe.errors import EdgepipeError, LimitError, ToolMissing
from edgepipe.pipeline import Candidate
from edgepipe.request import Request

KEY = "edgetpu"


def add(
    report: dict[str, Any], request: Request, chosen: Candidate, lacking: EdgepipeError | None
) -> EdgepipeError | None:
    """Put it into the report. Returns what is to be raised once all is delivered."""
    if chosen.result.format is Format.EDGETPU:
        step = chosen.trial.steps[-1]
        report[KEY] = {
            "compiled": True,
            **step.summary[KEY],
            "device": request.device or None,
            "not_run": step.proof.not_run if step.proof else "",
        }
        return None
    if request.target != KEY:
        return None
    foretold = _foretold(chosen.result.path, request)
    report[KEY] = {
        "compiled": False,
        "why": lacking.message if lacking else "--no-compile",
        "hint": lacking.hint if lacking else "",
        "foretold": foretold,
    }
    error = _unfinished(request, foretold, lacking)
    if error is not None:
        report["status"] = "incomplete" if lacking else "failed"
        report["error"] = error.to_json()
    return error


def summary(report: Mapping[str, Any]) -> list[str]:
    """Lines for the command's end; none for other targets."""
    facts = report.get(KEY)
    if not facts:
        return []
    if not facts["compiled"]:
        return [f"not compiled ({facts['why']}): {_mapping_words(facts['foretold'])}"]
    return compiled_words(facts["compiler"], facts["models"][0]) + (
        [facts["not_run"]] if facts["not_run"] else []
    )


def compiled_words(compiler: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """One compiled file in a few lines."""
    mapped, left = sum(model.get("mapped", {}).values()), sum(model.get("unmapped", {}).values())
    by = f"edgetpu_compiler {compiler['version']} {compiler['place']}"
    if compiler["replayed"]:
        by = f"a REPLAY of recordings of {compiler['version']}, not the real compiler"
    lines = [f"compiled by {by}"]
    if mapped + left:
        lines.append(f"{mapped} of {mapped + left} ops mapped to the Edge TPU")
    lines.append(
        f"parameters: {process_memory.words(model['cached_bytes'])} cached on the chip,"
        f" {process_memory.words(model['streamed_bytes'])} streamed at every inference;"
        f" needs runtime version {model['runtime_version']}"
    )
    differing = model["disagreements"]
    if differing:
        lines.append(f"not as foretold: {len(differing)} (see report.json)")
    elif model["foretold"]:
        lines.append("all ops as foretold by preflight")
    return lines


def _foretold(path: Path, request: Request) -> dict[str, Any]:
    from edgepipe.targets.edgetpu import preflight
    from edgepipe.targets.edgetpu.compile_options import CompileOptions

    said = request.options.get("edgetpu_compile", {})
    options = CompileOptions.from_settings(dict(said), "edgetpu_compile")
    assert isinstance(options, CompileOptions)
    return preflight.preflight(path, options.multiple_subgraphs).to_json()


def _mapping_words(foretold: Mapping[str, Any]) -> str:
    if foretold["refused"]:
        return f"foretold as refused: {'; '.join(foretold['refused'])}"
    total = foretold["mapped"] + foretold["cpu"]
    return f"{foretold['mapped']} of {total} ops foretold as mapped to the Edge TPU"


def _unfinished(
    request: Request, foretold: Mapping[str, Any], lacking: EdgepipeError | None
) -> EdgepipeError | None:
    words = _mapping_words(foretold)
    if request.require_full_mapping and (foretold["cpu"] or foretold["refused"]):
        return LimitError(
            f"not all is mapped: {words}",
            hint="`edgepipe preflight` shows each op that isn't, and what helps.",
        )
    if lacking is None:
        return None
    return ToolMissing(
        f"the int8 model is made, {words}, and not compiled: {lacking.message}",
        hint=f"{lacking.hint}. --no-compile says that this was wanted.",
    )
