"""Lets recurrent Keras layers be traced step by step, without a loop."""

from __future__ import annotations

from typing import Any

MOST_STEPS = 256
"""A GRU of 100 steps becomes 1,700 operators; a loop of thousands would become no file at all."""


def unroll(model: Any) -> list[str]:
    """Unroll the recurrent layers of a few steps; their names. Call it before tracing."""
    found = []
    for layer in model._flatten_layers():
        if getattr(layer, "unroll", None) is False and _steps(layer) <= MOST_STEPS:
            layer.unroll = True
            found.append(str(layer.name))
    return found


def _steps(layer: Any) -> int:
    """How many, as far as the layer knows: 0 where it was not told."""
    try:
        shape = layer.input.shape
    except (AttributeError, ValueError):  # It was called several times, or never.
        return 0
    return int(shape[1] or 0) if len(shape) > 1 else 0
