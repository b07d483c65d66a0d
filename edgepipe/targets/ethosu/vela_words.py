"""What Vela prints: which ops it leaves to the CPU and why, its warnings, how it ends."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_FALLBACK = re.compile(r"Warning \((?:supported operators|[^)]*)\) operator: (.+?), ofm: '(.*)'$")
_ASSUMED = "Compilation may be invalid or non-optimal"
"""Of defaults: never heard, since every name is said; kept out all the same."""
_ERROR = re.compile(r"^(?:[\w.]+\.)?(?P<kind>\w+(?:Error|Exception)): (?P<words>.+)$")
_QUOTED = re.compile(r"^(['\"])(.*)\1$")


@dataclass(frozen=True)
class Fallback:
    """One operator that stays on the CPU, in Vela's words: the reason, the constraint it breaks."""

    op: str
    output: str
    reason: str
    constraint: str

    def to_json(self) -> dict[str, Any]:
        return vars(self)


def fallbacks(lines: list[str]) -> list[Fallback]:
    """In the order in which Vela says them, each once."""
    found: dict[tuple[str, str], Fallback] = {}
    for at, line in enumerate(lines):
        match = _FALLBACK.match(line.strip())
        if match is None:
            continue
        reason, constraint = "", []
        for text in lines[at + 1 :]:
            if not text.strip() or _FALLBACK.match(text.strip()):
                break
            if text.startswith("Reason: "):
                reason = text.removeprefix("Reason: ").strip()
            else:
                constraint.append(text.strip())
        op, output = match[1].strip(), match[2]
        found.setdefault((op, output), Fallback(op, output, reason, " ".join(constraint)))
    return list(found.values())


def warnings(lines: list[str]) -> list[str]:
    """Everything else that it warns of, each once."""
    told = [line.strip() for line in lines if line.startswith("Warning: ")]
    return list(
        dict.fromkeys(line.removeprefix("Warning: ") for line in told if _ASSUMED not in line)
    )


def last_error(lines: list[str]) -> str:
    """The sentence at the end of a traceback, or its last line."""
    spoken = [line.strip() for line in lines if line.strip()]
    for line in reversed(spoken):
        match = _ERROR.match(line)
        if match:
            words = _QUOTED.sub(r"\2", match["words"].strip())
            return words.removeprefix("Error: ")
    return spoken[-1] if spoken else "it said nothing"
