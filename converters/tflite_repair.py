"""Mends a graph of onnx2tf's in which a layout pass renamed a tensor that others still read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import tflite_flip
from .tflite_flip import FIRST, LAST, RANKS

log = logging.getLogger(__name__)


def reconnect(ir: Any) -> int:
    """Make what is read but never made from its twin in the other layout, where there is one.

    Seen in EdgeNeXt: the sum that a Split reads became `add_2_nhwc_bridge`, and `add_2` was
    left without a maker; "Input tensor 149 lacks data" says LiteRT at the first inference.
    """
    count = 0
    for name in list(_never_made(ir)):
        twin = _twin(ir, name)
        if twin is None:
            continue
        source, layout = twin
        log.warning("%r is read and never made: taken from %r", name, source)
        _insert(ir, source, name, layout)
        count += 1
    return count


def _never_made(ir: Any) -> Iterator[str]:
    made = {*ir.inputs, *(name for op in ir.operators for name in op.outputs)}
    read = dict.fromkeys(name for op in ir.operators for name in op.inputs if name)
    for name in (*read, *ir.outputs):
        tensor = ir.tensors.get(name)
        if name in made or tensor is None or tensor.data is not None or tensor.is_variable:
            continue
        yield name


def _twin(ir: Any, name: str) -> tuple[str, str] | None:
    """A made tensor named after this one whose shape is this one's in the other layout."""
    shape = tuple(ir.tensors[name].shape)
    if len(shape) not in RANKS:
        return None
    for op in ir.operators:
        for made in op.outputs:
            if not made.startswith(f"{name}_n"):
                continue
            for layout in (FIRST, LAST):
                source = tuple(ir.tensors[made].shape)
                axes = tflite_flip.axes_to(layout, len(shape))
                if len(source) == len(shape) and tuple(source[axis] for axis in axes) == shape:
                    return made, layout
    return None


def _insert(ir: Any, source: str, name: str, layout: str) -> None:
    at = next(i for i, op in enumerate(ir.operators) if source in op.outputs)
    edits = tflite_flip.Edits(ir)
    axes = np.asarray(tflite_flip.axes_to(layout, len(ir.tensors[name].shape)), np.int32)
    permutation = edits.constant(f"{name}_permutation", axes)
    ir.operators.insert(at + 1, edits.operator("TRANSPOSE", [source, permutation], [name]))
