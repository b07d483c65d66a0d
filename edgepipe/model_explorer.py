"""A diagnosis as colours for Google's Model Explorer, which it shows over the int8 graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgepipe.proof import PERFECT_DB

COLOURS = ((0.0, "#2e7d32"), (0.5, "#fdd835"), (1.0, "#c62828"))
"""From harmless to costly; nodes are matched by the names of their output tensors."""


def overlay(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Custom node data (`model_explorer/node_data_builder.py` of its package).

    Of a file with one graph the id may be left out, as here.
    """
    shares = {one["layer"]: 100 * one["share"] for one in layers if one["share"] is not None}
    noise = {
        one["layer"]: PERFECT_DB - one["own_sqnr_db"]
        for one in layers
        if one["own_sqnr_db"] is not None
    }
    measured = shares or noise
    name = "share of the final error, %" if shares else f"{PERFECT_DB:.0f} less own SQNR, dB"
    return {
        "name": name,
        "results": {layer: {"value": round(value, 4)} for layer, value in measured.items()},
        "gradient": [{"stop": stop, "bgColor": colour} for stop, colour in COLOURS],
    }
