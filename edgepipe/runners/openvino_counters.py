"""Reads OpenVINO's performance counters: each layer's kernel, device and time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_SUBGRAPH = re.compile(r"^subgraph\d+: ")
"""What HETERO writes before the names of its parts' layers."""


@dataclass(frozen=True)
class Counter:
    """One layer as the device runs it: its own ones, such as reorders, too.

    `executed` is false for what was folded into another layer (`into`) or costs nothing.
    """

    op: str
    name: str
    exec: str
    """The kernel, as `brgconv_avx512_i8`."""
    device: str
    seconds: float
    cpu_seconds: float
    executed: bool
    into: str = ""
    precision: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Row = tuple[str, str, str, float, float, bool]


def read(request: Any) -> list[Row]:
    """The layers of the run that just ended."""
    return [
        (
            one.node_type,
            one.node_name,
            one.exec_type,
            one.real_time.total_seconds(),
            one.cpu_time.total_seconds(),
            getattr(one.status, "name", str(one.status).rpartition(".")[2]) == "EXECUTED",
        )
        for one in request.profiling_info
    ]


def mean(runs: Sequence[Sequence[Row]], compiled: Any, placed: Mapping[str, str]) -> list[Counter]:
    """Over runs, in the device's order. `placed`: op -> device, where a model is shared out."""
    if not runs:
        return []
    devices = devices_of(compiled)
    folded, precisions = _runtime_facts(compiled)
    found = []
    for rows in zip(*runs, strict=True):
        op, name, kernel, _, _, _ = rows[0]
        name = _SUBGRAPH.sub("", name)
        executed = any(row[5] for row in rows)
        found.append(
            Counter(
                op,
                name,
                kernel,
                devices[0] if len(devices) == 1 else placed.get(name, ""),
                sum(row[3] for row in rows) / len(rows),
                sum(row[4] for row in rows) / len(rows),
                executed,
                "" if executed else folded.get(name, ""),
                precisions.get(name, ""),
            )
        )
    return found


def devices_of(compiled: Any) -> list[str]:
    """Where it runs; of AUTO the device that was taken."""
    found = compiled.get_property("EXECUTION_DEVICES")
    return [found] if isinstance(found, str) else [str(one) for one in found]


def _runtime_facts(compiled: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Layer -> the one that it was folded into, and layer -> the type it computes in."""
    folded: dict[str, str] = {}
    precisions: dict[str, str] = {}
    try:
        nodes = compiled.get_runtime_model().get_ordered_ops()
    except RuntimeError:  # Not every device gives its graph.
        return folded, precisions
    for node in nodes:
        facts = node.get_rt_info()
        name = node.get_friendly_name()
        for original in _text(facts, "originalLayersNames").split(","):
            if original and original != name:
                folded[original] = name
        precisions[name] = _text(facts, "runtimePrecision")
    return folded, precisions


def layers_of(compiled: Any) -> dict[str, dict[str, str]]:
    """Operator of the given model -> the layer that does its work, its kernel and type."""
    found: dict[str, dict[str, str]] = {}
    try:
        nodes = compiled.get_runtime_model().get_ordered_ops()
    except RuntimeError:  # Not every device gives its graph.
        return found
    for node in nodes:
        facts = node.get_rt_info()
        layer = {
            "layer": node.get_friendly_name(),
            "kernel": _text(facts, "primitiveType"),
            "precision": _text(facts, "runtimePrecision"),
        }
        for original in _text(facts, "originalLayersNames").split(","):
            if original:
                found[original] = layer
    return found


def _text(facts: Any, key: str) -> str:
    try:
        value = facts[key]
    except KeyError:
        return ""
    return str(value.astype(str) if hasattr(value, "astype") else value)


FACTS = (
    "PERFORMANCE_HINT",
    "INFERENCE_PRECISION_HINT",
    "NUM_STREAMS",
    "INFERENCE_NUM_THREADS",
    "OPTIMAL_NUMBER_OF_INFER_REQUESTS",
    "LOADED_FROM_CACHE",
)


def facts(compiled: Any) -> dict[str, Any]:
    """Of the settings those that the device tells; AUTO and HETERO keep most to themselves."""
    from edgepipe.runners.openvino_devices import plain

    found: dict[str, Any] = {"devices": devices_of(compiled)}
    for key in FACTS:
        try:
            found[key.lower()] = plain(compiled.get_property(key))
        except RuntimeError:
            continue
    return found
