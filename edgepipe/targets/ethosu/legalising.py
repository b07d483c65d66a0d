"""Rewrites a quantized model for Vela, so that not one of its numbers changes."""

from __future__ import annotations

import importlib
from pathlib import Path

from edgepipe.tflite import loading, rewrite, saving

NAMES = ("mean_over_depth",)
FILE = "legal.tflite"
"""Beside the compiled file: what Vela was given, where that isn't the model itself. The proof
runs both and takes no difference at all."""


def legalise(path: Path, out: Path) -> list[str]:
    """What was done, as notes; nothing is written where there was nothing to do."""
    model, notes = loading.load(path), []
    for name in NAMES:
        found = importlib.import_module(f"edgepipe.targets.ethosu.legalise.{name}").REWRITE
        places = {op.outputs[0].name for graph in model.graphs for op in found.places(graph)}
        model, count = rewrite.changed(model, found, places)
        if count:
            notes.append(f"{found.name}: {found.says} ({count}x)")
    if notes:
        saving.save(model, out)
    return notes
