"""What the report says of a quantized result, in the words that the command prints last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summary(report: Mapping[str, Any]) -> list[str]:
    """Nothing for a float result."""
    proof = proof_of(report)
    if proof is None:
        return []
    calibration = str(report["request"].get("calibration", ""))
    lines = []
    accuracy = proof["accuracy"]
    if accuracy:
        lines.append(
            f"accuracy on {accuracy['samples']} held-out samples: float {accuracy['float']:.2%},"
            f" quantized {accuracy['quantized']:.2%} (right only before"
            f" {accuracy['only_float_right']}, only now {accuracy['only_quantized_right']})"
        )
    for output in proof["outputs"]:
        agreement = output["argmax_agreement"]
        same = f", same largest element in {agreement:.1%}" if agreement is not None else ""
        on = f" on {proof['samples']} samples"
        lines.append(f"{output['name']}: {output['sqnr_db']:.1f} dB{same}{on}")
    speed = chosen_speed(report)
    if speed is not None:
        lines.append(str(speed["words"]))
    if calibration == "random":
        lines.append("random calibration: these figures mean nothing for your data")
    return lines


def chosen_speed(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """OpenVINO's int8 beside its float IR, where that was measured."""
    chosen = next((one for one in report["routes"] if one["status"] == "chosen"), None)
    speed: Mapping[str, Any] | None = chosen.get("speed") if chosen else None
    return speed


def proof_of(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Against the float model; None where nothing quantized was run."""
    chosen = next((one for one in report["routes"] if one["status"] == "chosen"), None)
    steps = [one for one in chosen["steps"] if one["status"] != "left-out"] if chosen else []
    proofs = [step["proof"] for step in steps if step["proof"]]
    found = [one for one in proofs if one.get("quantized") and not one.get("not_run")]
    if len(found) > 1 and chosen and chosen["end_to_end"]:
        end: Mapping[str, Any] = chosen["end_to_end"]
        return end  # Behind the first, integers were compared with integers.
    return found[-1] if found else None
