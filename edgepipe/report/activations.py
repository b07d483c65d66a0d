"""Bytes of tensors that are alive at each operator of the TFLite files of a run, kept by digest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Format
from edgepipe.errors import EdgepipeError
from edgepipe.store import key as store_key

if TYPE_CHECKING:
    from edgepipe.report.document import Written
    from edgepipe.session import Session

REVISION = 1
"""Raised when the same file would give another curve."""
MOST = 360
"""Places of a curve; of more operators the largest of neighbours."""
FORMATS = (Format.TFLITE, Format.TFLITE_QUANTIZED)


def of(session: Session, written: Sequence[Written]) -> list[dict[str, Any]]:
    """A curve for each file. Kept, for reading them needs numpy, which costs an unchanged run as
    much as all the rest of it."""
    found = []
    for item in written:
        if item.artifact.format not in FORMATS:
            continue
        facts = {"step": "activations", "revision": REVISION, "model": item.artifact.digest}
        make = partial(_make, item.path)
        entry = session.fetch(store_key(facts), make, f"curve of {item.path.name}")
        if entry.facts["live"]:
            found.append({"path": item.path.name, **entry.facts})
    return found


def _make(path: Path, folder: Path) -> dict[str, Any]:
    del folder  # All that is kept are the facts.
    return of_file(path)


def of_file(path: Path) -> dict[str, Any]:
    """`live` is empty for what can't be read so far."""
    from edgepipe.cost import of_tflite
    from edgepipe.cost.memory import Memory

    try:
        network = of_tflite.read(path)
        memory = Memory(network)
    except EdgepipeError:
        return {"live": []}
    live = [memory.live.get(node) or 0 for node in network.main.nodes]
    node, peak = memory.peak.node, memory.peak
    return {
        "ops": len(live),
        "live": neighbours(live),
        "peak": peak.nbytes,
        "at": f"{node.kind} {node.name}" if node else "",
        "whole": peak.whole,
    }


def neighbours(values: Sequence[int], most: int = MOST) -> list[int]:
    count, places = len(values), min(len(values), most)
    return [max(values[at * count // places : (at + 1) * count // places]) for at in range(places)]
