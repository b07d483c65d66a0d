"""Runs TFLite models in LiteRT's interpreter, on the CPU, float at the edges."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.artifact import Artifact, Format, Port
from edgepipe.errors import BrokenOutput, InputError
from edgepipe.runner import Description, Runner, to_file_layout, to_given_layout
from edgepipe.runners import feeding, tflite_placement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

    Details = dict[str, Any]


class TfliteRunner(Runner):
    """One interpreter. Quantized ends take and give floats: (stored - zero point) * scale."""

    formats: ClassVar[tuple[Format, ...]] = (Format.TFLITE, Format.TFLITE_QUANTIZED)
    toolchain: ClassVar[str] = "edge"
    describes_in_core: ClassVar[bool] = True
    preload: ClassVar[tuple[str, ...]] = ("ai_edge_litert.interpreter",)
    interpreter_options: ClassVar[dict[str, Any]] = {}

    @classmethod
    def describe(cls, artifact: Artifact) -> Description:
        from edgepipe.tflite import quality, reader

        model = reader.read(artifact.path)
        found = quality.assess(model)
        facts = {
            "transposes": found.transposes,
            "custom_ops": found.custom,
            "flex_ops": found.flex,
            "split_activations": found.split_activations,
            "normalizations": found.normalizations,
            "inserted": found.inserted,
            "quantized_tensors": model.quantized(),
            "subgraphs": len(model.subgraphs),
            "metadata": list(model.metadata),
            "description": model.description,
        }
        return Description(model.signature(), model.ops(), model.parameters(), facts)

    def load(self) -> None:
        try:
            self.interpreter: Any = self._litert().Interpreter(
                model_path=str(self.artifact.path),
                num_threads=self.threads or None,
                **self._options(),
            )
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BrokenOutput(
                f"LiteRT can't load {self.artifact.path.name}: {error}",
                hint="the tool that wrote it left it broken, or LiteRT lacks one of its operators.",
            ) from error
        ends = self.artifact.ends()
        self.inputs = self._match(ends.inputs, self.interpreter.get_input_details())
        self.outputs = self._match(ends.outputs, self.interpreter.get_output_details())

    def infer(self, feeds: Tensors) -> Tensors:
        self._feed(feeds)
        self._invoke()
        return {port.name: self._fetch(port, details) for port, details in self.outputs}

    def latency(self, feeds: Tensors, repeats: int = 10, warmup: int = 2) -> list[float]:
        """Seconds of the interpreter alone; the feeds are laid out once, before."""
        self._feed(feeds)
        for _ in range(warmup):
            self._invoke()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self._invoke()
            times.append(time.perf_counter() - start)
        return times

    def placement(self, feeds: Tensors) -> list[dict[str, Any]]:
        self._feed(feeds)  # Other shapes than the file's may leave a delegate less.
        return tflite_placement.rows(self.interpreter)

    def arena_bytes(self) -> int | None:
        return tflite_placement.arena(self._litert(), str(self.artifact.path))

    def close(self) -> None:
        self.interpreter = None
        self.inputs, self.outputs = [], []

    def _litert(self) -> Any:
        return importlib.import_module("ai_edge_litert.interpreter")

    def _options(self) -> dict[str, Any]:
        """Further settings of the interpreter."""
        return self.interpreter_options

    def _match(self, ports: tuple[Port, ...], details: list[Details]) -> list[tuple[Port, Details]]:
        known = {one["name"]: one for one in details}
        for port in ports:
            if (port.tensor or port.name) not in known:
                raise InputError(
                    f"{self.artifact.path.name} has no {port.tensor or port.name!r}, "
                    f"it has {sorted(known)!r}"
                )
        return [(port, known[port.tensor or port.name]) for port in ports]

    def _feed(self, feeds: Tensors) -> None:
        ports = [port for port, _ in self.inputs]
        arrays = []
        for port, details in self.inputs:
            array = to_file_layout(feeding.pick(feeds, port, ports), port)
            if array.shape == () and tuple(details["shape"]) == (1,):
                array = array.reshape(1)  # converters write scalars as vectors of one
            arrays.append(to_stored(array, details, port.name))
        self._resize(arrays)
        for (_, details), array in zip(self.inputs, arrays, strict=True):
            self.interpreter.set_tensor(details["index"], array)
        # A sample must not see the state that the one before left.
        self.interpreter.reset_all_variables()

    def _resize(self, arrays: list[NDArray[Any]]) -> None:
        """Bring the inputs to the feeds' shapes, where the file leaves them open."""
        import numpy as np

        changed = False
        for (port, details), array in zip(self.inputs, arrays, strict=True):
            if tuple(details["shape"]) == array.shape:
                continue
            try:
                self.interpreter.resize_tensor_input(details["index"], array.shape, strict=True)
            except (RuntimeError, ValueError) as error:
                raise InputError(
                    f"input {port.name!r} takes the shape {tuple(map(int, details['shape']))}, "
                    f"received {array.shape}"
                ) from error
            details["shape"] = np.asarray(array.shape, np.int32)
            changed = True
        if changed:
            self.interpreter.allocate_tensors()

    def _invoke(self) -> None:
        try:
            self.interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise BrokenOutput(
                f"LiteRT can't run {self.artifact.path.name}: {error}", running=True
            ) from error

    def _fetch(self, port: Port, details: Details) -> NDArray[Any]:
        array = to_real(self.interpreter.get_tensor(details["index"]), details)
        return to_given_layout(array, port)


def _scales(details: Details) -> tuple[float, int] | None:
    """Scale and zero point of a quantized end, None where its numbers mean themselves."""
    import numpy as np

    parameters = details["quantization_parameters"]
    if np.dtype(details["dtype"]).kind not in "iu" or len(parameters["scales"]) == 0:
        return None
    return float(parameters["scales"][0]), int(parameters["zero_points"][0])


def to_stored(array: NDArray[Any], details: Details, name: str) -> NDArray[Any]:
    import numpy as np

    found = _scales(details)
    if found is None or array.dtype.kind != "f":
        return feeding.cast(array, np.dtype(details["dtype"]).name, name)
    scale, zero_point = found
    limits = np.iinfo(details["dtype"])
    stored = np.rint(array / scale) + zero_point
    clipped: NDArray[Any] = np.clip(stored, limits.min, limits.max).astype(details["dtype"])
    return clipped


def to_real(array: NDArray[Any], details: Details) -> NDArray[Any]:
    import numpy as np

    found = _scales(details)
    if found is None:
        return array
    scale, zero_point = found
    real: NDArray[Any] = (array.astype(np.float32) - zero_point) * np.float32(scale)
    return real
