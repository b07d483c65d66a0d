"""The job that asks OpenVINO which operators of a model a device has, and with which kernels."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from edgepipe.errors import BrokenOutput
from edgepipe.runners import openvino_counters, openvino_devices

UNREAD = re.compile(r"No conversion rule found for operations: (.+)")
FAILED = re.compile(r"^-- (\S+) with a message:\n(.+)", re.M)
ENDS = ("Parameter", "Result", "Constant")
PRODUCTS = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
    "MatMul",
)


def support(path: str, device: str) -> dict[str, Any]:
    """Operators in order, each with its device, layer, kernel and type; or those it can't read."""
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    name = openvino_devices.check(core, device)
    found: dict[str, Any] = {"openvino": openvino.__version__, "device": name, "ops": []}
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        unread = _unread(str(error))
        if not unread:
            raise BrokenOutput(f"OpenVINO can't read {Path(path).name}: {_short(error)}") from error
        return {**found, "unread": unread}
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() not in ENDS]
    by_device = {
        one: _lacking(core.query_model(model, one), nodes)
        for one in [*core.available_devices, *openvino_devices.parts(name)]
    }
    found |= {"lacking": by_device, "runs_on": [], "refused": ""}
    places, layers = _places(core, model, name), dict[str, dict[str, str]]()
    if all(node.get_friendly_name() in places for node in nodes):
        try:
            compiled = core.compile_model(model, name, {"PERFORMANCE_HINT": "LATENCY"})
        except RuntimeError as error:
            found["refused"] = _short(error)
        else:
            found["runs_on"] = openvino_counters.devices_of(compiled)
            layers = openvino_counters.layers_of(compiled)
    taken = found["runs_on"][0] if len(found["runs_on"]) == 1 else ""
    found["ops"] = [
        {
            "op": node.get_type_name(),
            "name": node.get_friendly_name(),
            "device": taken or places.get(node.get_friendly_name(), ""),
            "quantized": _is_quantized(node),
            **layers.get(node.get_friendly_name(), {}),
        }
        for node in nodes
    ]
    found["compiled"] = bool(layers)
    return found


def _places(core: Any, model: Any, name: str) -> dict[str, str]:
    """Operator -> device. AUTO and MULTI take a model as a whole: what one of them has, is had."""
    if name.partition(":")[0] not in ("AUTO", "MULTI"):
        return dict(core.query_model(model, name))
    best: dict[str, str] = {}
    for one in openvino_devices.parts(name) or core.available_devices:
        found = dict(core.query_model(model, one))
        if len(found) > len(best):
            best = found
    return best


def _lacking(supported: dict[str, str], nodes: list[Any]) -> dict[str, int]:
    """Types of the operators that a device has no kernel for."""
    found: dict[str, int] = {}
    for node in nodes:
        if node.get_friendly_name() not in supported:
            kind = node.get_type_name()
            found[kind] = found.get(kind, 0) + 1
    return found


def _is_quantized(node: Any) -> bool:
    """Whether a product is given integers, so that it could compute in them."""
    if node.get_type_name() not in PRODUCTS:
        return False
    maker: str = node.input_value(0).get_node().get_type_name()
    return maker == "FakeQuantize"


def _unread(text: str) -> dict[str, str]:
    """Type -> what the reader says of it: it has no rule, or its rule failed."""
    found: dict[str, str] = {}
    for names in UNREAD.findall(text):
        for name in names.split(","):
            found[_bare(name.strip())] = "OpenVINO's reader has no rule for it"
    for name, words in FAILED.findall(text):
        found[_bare(name)] = f"OpenVINO's reader fails on it: {words.strip()}"
    return found


def _bare(name: str) -> str:
    """ONNX's operators are told with their version, `Det-17`."""
    return re.sub(r"-\d+$", "", name)


def _short(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join((told or lines)[:3])
