"""Follows where elements go through operators that only move them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.targets.edgetpu.legalise.steps import whole
from edgepipe.tflite.graph import Graph, Op, Tensor

Places = NDArray[np.int64]

LARGEST = 1 << 23
"""Elements that are followed."""
DEEPEST = 10
"""Operators of one movement."""


Makers = dict[int, tuple[int, Op]]


def makers(graph: Graph) -> Makers:
    """What makes each tensor, and when."""
    return {id(one): (place, op) for place, op in enumerate(graph.ops) for one in op.outputs}


def sources(known: Makers, op: Op) -> list[tuple[Tensor, list[Op]]]:
    """Each tensor from which all of the result is moved, the farthest first, with the operators."""
    open_ = [op.outputs[0]]
    ops: list[Op] = []
    found: list[tuple[Tensor, list[Op]]] = []
    while len(ops) < DEEPEST:
        made = [known[id(one)] for one in open_ if id(one) in known]
        if not made:
            break
        latest = max(made, key=lambda one: one[0])[1]
        if latest.name not in _MOVES or len(latest.outputs) != 1:
            break
        ops.insert(0, latest)
        open_ = [one for one in open_ if one is not latest.outputs[0]]
        open_ += [one for one in _moved(latest) if not any(one is other for other in open_)]
        if len(open_) == 1 and open_[0].elements <= LARGEST:
            found.append((open_[0], list(ops)))
    return found[::-1]


def follow(source: Tensor, ops: list[Op]) -> Places | None:
    """For each element of the result, which of the source's it is."""
    known: dict[int, Places] = {
        id(source): np.arange(source.elements, dtype=np.int64).reshape(source.shape)
    }
    try:
        for op in ops:
            target = op.outputs[0]
            if target.elements > LARGEST:
                return None
            made = np.asarray(_MOVES[op.name](op, [known[id(one)] for one in _moved(op)]))
            known[id(target)] = made.reshape(target.shape)
    except (ValueError, IndexError, TypeError, KeyError):
        return None
    return known[id(ops[-1].outputs[0])]


def _moved(op: Op) -> list[Tensor]:
    """What is moved, without constants that say how; a tensor that is taken twice, twice."""
    joins = op.name in ("CONCATENATION", "PACK")
    return list(op.reads()) if joins else [one for one in op.inputs[:1] if one is not None]


def _taken(op: Op, values: list[Any]) -> Any:
    indices = op.inputs[1]
    assert indices is not None
    axis = int(op.option("axis"))
    if op.option("batch_dims") or not indices.is_constant:
        raise ValueError("not followed")
    return np.take(values[0], indices.array(), axis)


def _taken_nd(op: Op, values: list[Any]) -> Any:
    indices = op.inputs[1]
    if indices is None or not indices.is_constant:
        raise ValueError("not followed")
    return values[0][tuple(np.moveaxis(indices.array(), -1, 0))]


def _second(op: Op) -> list[int]:
    found = whole(op.inputs[1])
    if found is None:
        raise ValueError("not followed")
    return found


def _joined(op: Op, values: list[Any]) -> Any:
    join = np.stack if op.name == "PACK" else np.concatenate
    if op.activation != "NONE":
        raise ValueError("not followed")
    return join(values, int(op.option("axis")))


_MOVES: dict[str, Any] = {
    "RESHAPE": lambda op, values: values[0],
    "SQUEEZE": lambda op, values: values[0],
    "EXPAND_DIMS": lambda op, values: values[0],
    "TRANSPOSE": lambda op, values: values[0].transpose(_second(op)),
    "TILE": lambda op, values: np.tile(values[0], _second(op)),
    "BROADCAST_TO": lambda op, values: np.broadcast_to(values[0], _second(op)),
    "GATHER": _taken,
    "GATHER_ND": _taken_nd,
    "CONCATENATION": _joined,
    "PACK": _joined,
}
