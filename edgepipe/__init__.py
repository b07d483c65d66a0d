"""edgepipe brings a Keras, PyTorch or ONNX model to an edge chip and proves that it still works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgepipe.advice import Advice, advise
    from edgepipe.api import Inspection, Result, convert, inspect, routes, survey
    from edgepipe.bundling.bundle import Bundle, bundle
    from edgepipe.chip_preflight import preflight
    from edgepipe.devices.calls import compare, run_on_devices
    from edgepipe.diagnosis import Diagnosis, diagnose
    from edgepipe.errors import EdgepipeError
    from edgepipe.project.checking import Checked, check
    from edgepipe.repetition import rerun
    from edgepipe.several_targets import TargetResults, convert_targets
    from edgepipe.targets.edgetpu.compile_run import compile
    from edgepipe.targets.edgetpu.estimating import estimate
    from edgepipe.targets.edgetpu.fixing import legalise
    from edgepipe.targets.edgetpu.host_calibration import calibrate_host
    from edgepipe.targets.openvino.devices import devices as openvino_devices
    from edgepipe.targets.openvino.profiling import profile as openvino_profile
    from edgepipe.validation.benching import bench
    from edgepipe.validation.validating import Validated, validate

__all__ = [
    "Advice",
    "Bundle",
    "Checked",
    "Diagnosis",
    "EdgepipeError",
    "Inspection",
    "Result",
    "TargetResults",
    "Validated",
    "__version__",
    "advise",
    "bench",
    "bundle",
    "calibrate_host",
    "check",
    "compare",
    "compile",
    "convert",
    "convert_targets",
    "diagnose",
    "estimate",
    "inspect",
    "legalise",
    "openvino_devices",
    "openvino_profile",
    "preflight",
    "rerun",
    "routes",
    "run_on_devices",
    "survey",
    "validate",
]

_HOMES = {
    "check": "edgepipe.project.checking",
    "Checked": "edgepipe.project.checking",
    "rerun": "edgepipe.repetition",
    "bundle": "edgepipe.bundling.bundle",
    "Bundle": "edgepipe.bundling.bundle",
    "advise": "edgepipe.advice",
    "Advice": "edgepipe.advice",
    "convert": "edgepipe.api",
    "convert_targets": "edgepipe.several_targets",
    "TargetResults": "edgepipe.several_targets",
    "estimate": "edgepipe.targets.edgetpu.estimating",
    "calibrate_host": "edgepipe.targets.edgetpu.host_calibration",
    "routes": "edgepipe.api",
    "inspect": "edgepipe.api",
    "legalise": "edgepipe.targets.edgetpu.fixing",
    "openvino_devices": "edgepipe.targets.openvino.devices:devices",
    "openvino_profile": "edgepipe.targets.openvino.profiling:profile",
    "preflight": "edgepipe.chip_preflight",
    "compare": "edgepipe.devices.calls",
    "run_on_devices": "edgepipe.devices.calls",
    "compile": "edgepipe.targets.edgetpu.compile_run",
    "survey": "edgepipe.api",
    "diagnose": "edgepipe.diagnosis",
    "bench": "edgepipe.validation.benching",
    "validate": "edgepipe.validation.validating",
    "Validated": "edgepipe.validation.validating",
    "Diagnosis": "edgepipe.diagnosis",
    "Inspection": "edgepipe.api",
    "Result": "edgepipe.api",
    "EdgepipeError": "edgepipe.errors",
}


def __getattr__(name: str) -> Any:
    """Load the Python interface on first use, so that workers and `--help` stay light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgepipe' has no attribute {name!r}")
    import importlib

    module, _, inner = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), inner or name)
