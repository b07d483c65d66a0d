"""Runs OpenVINO's IR on the CPU, in the precision that the file holds."""

from __future__ import annotations

import importlib
import math
import time
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import BrokenOutput, InputError
from edgepipe.identify_openvino import graph_of
from edgepipe.runner import Description, Runner, to_file_layout, to_given_layout
from edgepipe.runners import feeding

if TYPE_CHECKING:
    from edgepipe.runner import Tensors

DEVICE = "CPU"


class OpenvinoRunner(Runner):
    """One compiled model and one request. Ends are matched by name."""

    formats: ClassVar[tuple[Format, ...]] = (Format.OPENVINO, Format.OPENVINO_QUANTIZED)
    toolchain: ClassVar[str] = "openvino"
    preload: ClassVar[tuple[str, ...]] = ("openvino",)

    @classmethod
    def describe(cls, artifact: Artifact) -> Description:
        model = _read(importlib.import_module("openvino").Core(), artifact)
        ops: dict[str, int] = {}
        parameters = 0
        for node in model.get_ordered_ops():
            kind = node.get_type_name()
            if kind == "Constant":
                if node.get_element_type().is_real():  # Shapes and axes are no weights.
                    parameters += math.prod(node.output(0).get_shape())
            elif kind not in ("Parameter", "Result"):
                ops[kind] = ops.get(kind, 0) + 1
        signature = Signature(tuple(map(_port, model.inputs)), tuple(map(_port, model.outputs)))
        return Description(signature, ops, parameters)

    def load(self) -> None:
        openvino = importlib.import_module("openvino")
        core = openvino.Core()
        # Where the processor has bfloat16, the CPU device computes float32 models in it by default:
        # docs.openvino.ai, "CPU Device", inference precision.
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self.threads:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        model = _read(core, self.artifact)
        try:
            compiled = core.compile_model(model, DEVICE, settings)
        except RuntimeError as error:
            raise BrokenOutput(
                f"OpenVINO {openvino.__version__} can't load {self.artifact.path.name}: {error}"
            ) from error
        self.request: Any = compiled.create_infer_request()
        ends = self.artifact.ends()
        self.inputs = _matched(ends.inputs, compiled.inputs, self.artifact.path.name)
        self.outputs = _matched(ends.outputs, compiled.outputs, self.artifact.path.name)

    def infer(self, feeds: Tensors) -> Tensors:
        self._feed(feeds)
        self._run()
        # A copy: the request writes its next result over this one.
        return {
            port.name: to_given_layout(self.request.get_output_tensor(index).data.copy(), port)
            for port, index, _ in self.outputs
        }

    def latency(self, feeds: Tensors, repeats: int = 10, warmup: int = 2) -> list[float]:
        """Seconds of the request alone; the feeds are laid out once, before."""
        self._feed(feeds)
        for _ in range(warmup):
            self._run()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self._run()
            times.append(time.perf_counter() - start)
        return times

    def close(self) -> None:
        self.request = None
        self.inputs, self.outputs = [], []

    def _feed(self, feeds: Tensors) -> None:
        openvino = importlib.import_module("openvino")
        ports = [port for port, _, _ in self.inputs]
        for port, index, kind in self.inputs:
            array = to_file_layout(feeding.pick(feeds, port, ports), port)
            array = feeding.cast(array, kind, port.name)
            self.request.set_input_tensor(index, openvino.Tensor(array.copy(order="C")))
        # A sample must not see the state that the one before left.
        self.request.reset_state()

    def _run(self) -> None:
        try:
            self.request.infer()
        except RuntimeError as error:
            raise BrokenOutput(f"OpenVINO can't run {self.artifact.path.name}: {error}") from error


def _read(core: Any, artifact: Artifact) -> Any:
    try:
        return core.read_model(str(graph_of(artifact.path)))
    except RuntimeError as error:
        raise BrokenOutput(
            f"OpenVINO can't read {artifact.path.name}: {error}",
            hint="its .xml or .bin was changed after it was written: make it again.",
        ) from error


def _name(end: Any) -> str:
    """By sort where an end has several, so that every load gives the same."""
    return str(min(end.get_names(), default=end.node.friendly_name))


def _port(end: Any) -> Port:
    partial = end.partial_shape
    shape = None
    if partial.rank.is_static:
        shape = tuple(
            dimension.get_length() if dimension.is_static else None for dimension in partial
        )
    return Port(_name(end), shape, str(end.element_type.to_dtype()))


def _matched(ports: tuple[Port, ...], ends: list[Any], model: str) -> list[tuple[Port, int, str]]:
    """Each port with its place in the compiled model and its type there."""
    places = {
        name: index for index, end in enumerate(ends) for name in (_name(end), *end.get_names())
    }
    found = []
    for port in ports:
        tensor = port.tensor or port.name
        if tensor not in places:
            raise InputError(f"{model} has no {tensor!r}, it has {sorted(places)!r}")
        index = places[tensor]
        found.append((port, index, str(ends[index].element_type.to_dtype())))
    return found
