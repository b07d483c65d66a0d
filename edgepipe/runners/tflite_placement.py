"""Which kernels of LiteRT ran each operator of a TFLite file, and the size of its arena."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

XNNPACK, BUILT_IN, EDGE_TPU = "CPU, XNNPACK", "CPU, LiteRT's own kernels", "Edge TPU"
DELEGATE = "DELEGATE"
ON_CHIP = "edgetpu-custom-op"


def rows(interpreter: Any) -> list[dict[str, Any]]:
    """Every operator of the file. A delegate's node stands for those that it replaced.

    LiteRT lists the file's operators and behind them the delegates' nodes, but doesn't say which
    replaced which (tensorflow/lite/core/subgraph.cc, ReplaceNodeSubsetsWithDelegateKernels). It
    shows from the tensors: what leads from a node's outputs back to its inputs was replaced.
    """
    ops = interpreter._get_ops_details()
    replaced = _replaced(ops)
    names = {int(one["index"]): one["name"] for one in interpreter.get_tensor_details()}
    found = []
    for op in ops:
        if op["op_name"] == DELEGATE:
            continue
        first = next((int(one) for one in op["outputs"]), -1)
        device = BUILT_IN
        if op["index"] in replaced:
            device = EDGE_TPU if op["op_name"] == ON_CHIP else XNNPACK
        found.append({"op": op["op_name"], "name": names.get(first, ""), "device": device})
    return found


def _replaced(ops: Sequence[Mapping[str, Any]]) -> set[int]:
    makers = {int(one): op for op in ops if op["op_name"] != DELEGATE for one in op["outputs"]}
    found: set[int] = set()
    for node in ops:
        if node["op_name"] != DELEGATE:
            continue
        ends = {int(one) for one in node["inputs"]}
        todo = [int(one) for one in node["outputs"]]
        while todo:
            tensor = todo.pop()
            op = makers.get(tensor)
            if tensor in ends or op is None or op["index"] in found:
                continue
            found.add(op["index"])
            todo += [int(one) for one in op["inputs"]]
    return found


def arena(module: Any, path: str) -> int | None:
    """Bytes that LiteRT lays out for tensors when its own kernels run all of the file.

    Read from where it put them: the binding doesn't tell the size. With a delegate the tensors
    inside what it replaced lie in memory of its own, so none is taken here.
    """
    without = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = module.Interpreter(model_path=path, experimental_op_resolver_type=without)
    # What kernels need for themselves is listed behind the tensors of the file.
    listed = interpreter._interpreter.NumTensors(0)
    interpreter.allocate_tensors()
    made = {int(one) for op in interpreter._get_ops_details() for one in op["outputs"]}
    made |= {int(one["index"]) for one in interpreter.get_input_details()}
    # Only of those with a shape: of the others the binding reads an address that isn't there.
    known = {int(one["index"]) for one in interpreter.get_tensor_details()}
    spans = []
    for index in known & {*made, *range(listed, interpreter._interpreter.NumTensors(0))}:
        try:
            array = interpreter.tensor(index)()
        except (ValueError, RuntimeError):  # It has no place before it is computed.
            continue
        start = array.__array_interface__["data"][0]
        spans.append((start, start + array.nbytes))
    return _extent(spans) if spans else None


APART = 1 << 16
"""Bytes between two tensors from which on they are not of one arena."""


def _extent(spans: list[tuple[int, int]]) -> int:
    """The bytes from first to last of each stretch of memory: states have an arena of their own."""
    total, (first, last) = 0, min(spans)
    for start, end in sorted(spans):
        if start > last + APART:
            total, first = total + last - first, start
        last = max(last, end)
    return total + last - first
