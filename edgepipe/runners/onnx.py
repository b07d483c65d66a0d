"""Runs ONNX models in ONNX Runtime, on the CPU or, where asked, on a GPU by CUDA."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe import gpu, onnx_file
from edgepipe.artifact import Artifact, Format
from edgepipe.errors import BrokenOutput, EdgepipeError, InputError
from edgepipe.runner import Description, Runner, to_file_layout, to_given_layout
from edgepipe.runners import feeding, onnx_placement

if TYPE_CHECKING:
    from edgepipe.runner import Tensors

_NUMPY_TYPES = {"float": "float32", "double": "float64"}
"""ONNX Runtime writes C's names: `tensor(float)`."""

_ERRORS_ONLY = 3
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxRunner(Runner):
    """One inference session. Inputs and outputs are matched by name, so their order is free."""

    formats: ClassVar[tuple[Format, ...]] = (Format.ONNX,)
    toolchain: ClassVar[str] = "edge"
    describes_in_core: ClassVar[bool] = True
    preload: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    @classmethod
    def describe(cls, artifact: Artifact) -> Description:
        found = onnx_file.read(artifact.path)
        onnx_file.external_files(artifact.path)
        return Description(found.signature, found.ops, found.parameters, found.facts())

    def load(self) -> None:
        ort = importlib.import_module("onnxruntime")
        settings = ort.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        if self.threads:
            settings.intra_op_num_threads = self.threads
        try:
            self.session: Any = ort.InferenceSession(
                str(self.artifact.path), settings, providers=self._providers(ort)
            )
        except EdgepipeError:
            raise
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise BrokenOutput(
                f"ONNX Runtime {ort.__version__} can't load {self.artifact.path.name}: {error}",
                hint="an unknown operator or opset shows with `edgepipe inspect`.",
            ) from error
        if gpu.is_gpu(self.device) and CUDA not in self.session.get_providers():
            # ONNX Runtime goes on without CUDA where its libraries don't load, and only logs it.
            raise gpu.unusable(
                f"ONNX Runtime {ort.__version__}", "its CUDA libraries don't load", "edge"
            )
        self.types = {port.name: _numpy_type(port.type) for port in self.session.get_inputs()}
        self._check_names()

    def _providers(self, ort: Any) -> list[str]:
        if not gpu.is_gpu(self.device):
            return [CPU]
        if CUDA not in ort.get_available_providers():
            raise gpu.unusable(
                f"ONNX Runtime {ort.__version__}", "it is built without CUDA", "edge"
            )
        return [CUDA, CPU]

    def infer(self, feeds: Tensors) -> Tensors:
        return self._run(self._prepare(feeds))

    def latency(self, feeds: Tensors, repeats: int = 10, warmup: int = 2) -> list[float]:
        """Seconds of the session alone; the feeds are laid out once, before."""
        prepared = self._prepare(feeds)
        for _ in range(warmup):
            self.session.run(None, prepared)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.session.run(None, prepared)
            times.append(time.perf_counter() - start)
        return times

    def placement(self, feeds: Tensors) -> list[dict[str, Any]]:
        return onnx_placement.rows(
            importlib.import_module("onnxruntime"),
            str(self.artifact.path),
            self.session.get_providers(),
            self._prepare(feeds),
        )

    def close(self) -> None:
        self.session = None

    def _prepare(self, feeds: Tensors) -> Tensors:
        ports = self.artifact.ends().inputs
        prepared = {}
        for port in ports:
            tensor = port.tensor or port.name
            array = to_file_layout(feeding.pick(feeds, port, ports), port)
            prepared[tensor] = feeding.cast(array, self.types[tensor], port.name)
        return prepared

    def _run(self, prepared: Tensors) -> Tensors:
        ports = self.artifact.ends().outputs
        try:
            found = self.session.run([port.tensor or port.name for port in ports], prepared)
        except Exception as error:  # ONNX Runtime's errors share no base class
            shapes = {name: array.shape for name, array in prepared.items()}
            raise BrokenOutput(
                f"ONNX Runtime can't run {self.artifact.path.name} on {shapes}: {error}",
                running=True,
            ) from error
        pairs = zip(ports, found, strict=True)
        return {port.name: to_given_layout(array, port) for port, array in pairs}

    def _check_names(self) -> None:
        ends = self.artifact.ends()
        outputs = {port.name for port in self.session.get_outputs()}
        for port, known in [(p, set(self.types)) for p in ends.inputs] + [
            (p, outputs) for p in ends.outputs
        ]:
            if (port.tensor or port.name) not in known:
                raise InputError(
                    f"{self.artifact.path.name} has no {port.tensor or port.name!r}, "
                    f"it has {sorted(known)!r}"
                )


def _words(ort: Any) -> str:
    return f"ONNX Runtime {ort.__version__}"


def _numpy_type(words: str) -> str:
    """`tensor(float)` as numpy's `float32`."""
    inner = words.removeprefix("tensor(").removesuffix(")")
    return _NUMPY_TYPES.get(inner, inner)
