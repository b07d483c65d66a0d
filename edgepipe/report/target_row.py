"""One target's line in the report on several: size, memory, mapped ops, latency, agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepipe import catalog
from edgepipe.artifact import Format
from edgepipe.errors import EdgepipeError
from edgepipe.report import compiled, ethosu, quantized

MEASURED, ESTIMATED = "measured", "estimated"
ONE_THREAD = "on this machine's CPU, one thread, median of 20"
OF_PROCESS = "process"
"""Its growth by loading and running: weights, what the runtime makes of them, activations."""
BY_VELA = "by Vela"


@dataclass(frozen=True)
class TargetRow:
    """None where a target has no such thing, or didn't get so far."""

    target: str
    precision: str
    status: str
    """done, incomplete (all but a compiler that isn't here) or failed."""
    exit_code: int
    report: str | None = None
    model: str | None = None
    size: int | None = None
    memory_bytes: int | None = None
    memory_of: str = ""
    streamed_bytes: int | None = None
    """Parameters that the Edge TPU's memory has no room for; foretold: the most it can be."""
    accelerated: int | None = None
    ops: int | None = None
    mapping: str = ""
    """compiled, or foretold where there was no compiler."""
    latency_ms: float | None = None
    latency_is: str = ""
    latency_of: str = ""
    sqnr_db: float | None = None
    argmax_agreement: float | None = None
    accuracy: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "notes": list(self.notes)}


def row(
    target: str,
    precision: str,
    report: Mapping[str, Any] | None,
    folder: Path,
    error: EdgepipeError | None,
    notes: tuple[str, ...],
) -> TargetRow:
    """Of a report where there is one: what an error left behind counts, too."""
    facts: dict[str, Any] = {}
    status = "done" if error is None else "failed"
    if report is not None:
        facts["report"] = f"{folder.name}/report.json"
        status = str(report["status"])
        if any(one["status"] == "chosen" for one in report["routes"]):
            facts |= _facts(target, report, folder)
    if error is not None:
        told = error.to_json()
        kept = {key: told["details"][key] for key in ("install",) if key in told["details"]}
        facts["error"] = {**told, "details": kept}
    speed = quantized.chosen_speed(report) if report is not None else None
    if speed is not None and speed["slower"]:
        notes = (*notes, str(speed["words"]))
    code = 0 if error is None else error.exit_code
    return TargetRow(target, precision, status, code, notes=notes, **facts)


def _facts(target: str, report: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    last = report["outputs"][-1]
    facts = {"model": f"{folder.name}/{last['path']}", "size": last["size"]}
    facts |= _agreement(report)
    vela = ethosu.figures_of(report)
    if vela is not None:
        facts |= {
            "memory_bytes": vela.sram_bytes,
            "memory_of": "SRAM",
            "accelerated": vela.on_npu,
            "ops": vela.ops,
            "mapping": "compiled",
            "latency_ms": vela.seconds * 1000 if vela.cycles else None,
            "latency_is": ESTIMATED if vela.cycles else "",
            "latency_of": BY_VELA if vela.cycles else "",
        }
    elif compiled.KEY in report:
        facts |= _edgetpu(report, folder)
    elif catalog.target(target).compiled is None:
        facts |= _on_cpu(report, folder)
    return facts


def _agreement(report: Mapping[str, Any]) -> dict[str, Any]:
    proof = quantized.proof_of(report) or _float_proof(report)
    if proof is None:
        return {}
    same = [one["argmax_agreement"] for one in proof["outputs"]]
    said = [one for one in same if one is not None]
    return {
        "sqnr_db": min((one["sqnr_db"] for one in proof["outputs"]), default=None),
        "argmax_agreement": min(said, default=None),
        "accuracy": proof["accuracy"],
    }


def _float_proof(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    chosen = next(one for one in report["routes"] if one["status"] == "chosen")
    proofs = [chosen["end_to_end"], *(step["proof"] for step in chosen["steps"])]
    ran: list[Mapping[str, Any]] = [one for one in proofs if one and not one["not_run"]]
    return ran[0] if ran else None


def _edgetpu(report: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    facts = report[compiled.KEY]
    if facts["compiled"]:
        model = facts["models"][0]
        mapped, left = (sum(model.get(key, {}).values()) for key in ("mapped", "unmapped"))
        found = {
            "memory_bytes": model["cached_bytes"],
            "streamed_bytes": model["streamed_bytes"],
            "mapping": "compiled",
        }
    else:
        foretold = facts["foretold"]
        mapped, left = foretold["mapped"], foretold["cpu"]
        memory = foretold["memory"]
        found = {
            "memory_bytes": memory["parameters"] - memory["streamed_most"],
            "streamed_bytes": memory["streamed_most"],
            "mapping": "foretold",
        }
    found |= {"memory_of": "on chip", "accelerated": mapped, "ops": mapped + left}
    integers = [one for one in report["outputs"] if one["format"] == Format.TFLITE_QUANTIZED.value]
    return found | (_estimated(folder / integers[-1]["path"]) if integers else {})


def _estimated(model: Path) -> dict[str, Any]:
    from edgepipe.targets.edgetpu import estimating

    try:
        found = estimating.estimate(model)
    except EdgepipeError:
        return {}  # Nothing is mapped, and the row says so.
    one = found.models[0]
    band = f"{one.least:.2g} to {one.most:.2g} ms, behind {found.host.name}"
    return {"latency_ms": one.milliseconds, "latency_is": ESTIMATED, "latency_of": band}


def _on_cpu(report: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    chosen = next(one for one in report["routes"] if one["status"] == "chosen")
    if chosen["latency_ms"] is not None:
        found |= {
            "latency_ms": chosen["latency_ms"],
            "latency_is": MEASURED,
            "latency_of": ONE_THREAD,
        }
    if chosen.get("memory_bytes"):
        found |= {"memory_bytes": chosen["memory_bytes"], "memory_of": OF_PROCESS}
    path = folder / report["outputs"][-1]["path"]
    if path.suffix == ".tflite":
        from edgepipe.cost import of_tflite
        from edgepipe.cost.memory import Memory

        peak = Memory(of_tflite.read(path)).peak
        if peak.whole:
            found |= {"memory_bytes": peak.nbytes, "memory_of": "RAM"}
    return found
