"""Runs OpenVINO's IR on a device of OpenVINO, the CPU by default, exactly by default."""

from __future__ import annotations

import importlib
import math
import time
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import BrokenOutput, InputError
from edgepipe.identify_openvino import graph_of
from edgepipe.runner import Description, Runner, to_file_layout, to_given_layout
from edgepipe.runners import feeding, openvino_counters, openvino_devices
from edgepipe.runners.openvino_counters import Counter
from edgepipe.runners.openvino_settings import OpenvinoSettings

if TYPE_CHECKING:
    from edgepipe.runner import Tensors
    from edgepipe.stage import Options


class OpenvinoRunner(Runner):
    """One compiled model and one request. Ends are matched by name."""

    formats: ClassVar[tuple[Format, ...]] = (Format.OPENVINO, Format.OPENVINO_QUANTIZED)
    toolchain: ClassVar[str] = "openvino"
    preload: ClassVar[tuple[str, ...]] = ("openvino",)
    options: ClassVar[type[Options]] = OpenvinoSettings
    settings: OpenvinoSettings

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
        device = openvino_devices.check(core, self.device)
        properties = self.settings.properties(device, self.threads)
        model = _read(core, self.artifact)
        # Only HETERO shares one model out, and its counters don't say where a layer ran.
        shared = self.settings.counters and device.startswith("HETERO")
        self.placed: dict[str, str] = core.query_model(model, device) if shared else {}
        try:
            compiled = core.compile_model(model, device, properties)
        except RuntimeError as error:
            where = "" if device == openvino_devices.CPU else f" on {device}"
            raise BrokenOutput(
                f"OpenVINO {openvino.__version__} can't load {self.artifact.path.name}{where}:"
                f" {error}"
            ) from error
        self.compiled: Any = compiled
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

    def throughput(self, feeds: Tensors, seconds: float = 1.0) -> float:
        """Inferences a second, with as many requests at once as the hint and the streams ask."""
        openvino = importlib.import_module("openvino")
        laid_out = self._laid_out(feeds)
        queue = openvino.AsyncInferQueue(self.compiled)
        for _ in range(2 * len(queue)):
            queue.start_async(laid_out)
        queue.wait_all()
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            queue.start_async(laid_out)
            count += 1
        queue.wait_all()
        return count / (time.perf_counter() - start)

    def counters(self, feeds: Tensors, repeats: int = 10, warmup: int = 2) -> list[Counter]:
        """Each layer as the device runs it, with its mean time; needs the setting `counters`."""
        self._feed(feeds)
        for _ in range(warmup):
            self._run()
        runs = []
        for _ in range(repeats):
            self._run()
            runs.append(openvino_counters.read(self.request))
        return openvino_counters.mean(runs, self.compiled, self.placed)

    def placement(self, feeds: Tensors) -> list[dict[str, Any]]:
        """Layers that the device ran; those folded into others have no time of their own."""
        settings = {**self.settings.settings(), "counters": True}
        with OpenvinoRunner(self.artifact, self.threads, self.device, settings) as other:
            assert isinstance(other, OpenvinoRunner)
            layers = other.counters(feeds, repeats=3)
        return [
            {"op": one.op, "name": one.name, "device": one.device, "seconds": one.seconds}
            for one in layers
            if one.executed
        ]

    def facts(self) -> dict[str, Any]:
        """What came of the device and the settings."""
        return openvino_counters.facts(self.compiled)

    def close(self) -> None:
        self.request, self.compiled = None, None
        self.inputs, self.outputs = [], []

    def _laid_out(self, feeds: Tensors) -> dict[int, Any]:
        openvino = importlib.import_module("openvino")
        ports = [port for port, _, _ in self.inputs]
        found = {}
        for port, index, kind in self.inputs:
            array = to_file_layout(feeding.pick(feeds, port, ports), port)
            array = feeding.cast(array, kind, port.name)
            found[index] = openvino.Tensor(array.copy(order="C"))
        return found

    def _feed(self, feeds: Tensors) -> None:
        for index, tensor in self._laid_out(feeds).items():
            self.request.set_input_tensor(index, tensor)
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
