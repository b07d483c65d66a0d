"""Runs TFLite models in TensorFlow Lite Micro, as firmware does, and sees its arena."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.artifact import Artifact, Format
from edgepipe.errors import BrokenOutput
from edgepipe.runner import Description, Runner, to_file_layout, to_given_layout
from edgepipe.runners import feeding
from edgepipe.runners.tflite import TfliteRunner, to_real, to_stored

if TYPE_CHECKING:
    from edgepipe.runner import Tensors

ROOM = 64 << 20
"""Bytes of arena to begin with. One that is too small may crash it, so there is plenty: what is
measured is what was used."""
_USED = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")


class TfliteMicroRunner(Runner):
    """One interpreter. Its inputs and outputs are those of the file, in the file's order."""

    formats: ClassVar[tuple[Format, ...]] = (Format.TFLITE, Format.TFLITE_QUANTIZED)
    toolchain: ClassVar[str] = "tflite-micro"
    describes_in_core: ClassVar[bool] = True

    @classmethod
    def describe(cls, artifact: Artifact) -> Description:
        return TfliteRunner.describe(artifact)

    def load(self) -> None:
        from edgepipe.tflite import reader

        runtime = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
        content = self.artifact.path.read_bytes()
        made: list[Any] = []

        def load() -> None:
            try:
                made.append(
                    runtime.Interpreter.from_bytes(content, arena_size=ROOM + 4 * len(content))
                )
            except (RuntimeError, ValueError) as error:
                sys.stderr.write(f"{error}\n")

        told = _told(load)
        if not made:
            raise BrokenOutput(f"TensorFlow Lite Micro can't load the model: {told[0]}")
        self.interpreter: Any = made[0]
        graph = reader.read(self.artifact.path).main
        ends = self.artifact.ends()
        names = [
            [graph.tensors[one].name for one in side] for side in (graph.inputs, graph.outputs)
        ]
        self.inputs = [(port, names[0].index(port.tensor or port.name)) for port in ends.inputs]
        self.outputs = [(port, names[1].index(port.tensor or port.name)) for port in ends.outputs]

    def infer(self, feeds: Tensors) -> Tensors:
        ports = [port for port, _ in self.inputs]
        for port, index in self.inputs:
            details = self.interpreter.get_input_details(index)
            array = to_file_layout(feeding.pick(feeds, port, ports), port)
            self.interpreter.set_input(to_stored(array, details, port.name), index)
        try:
            self.interpreter.invoke()
        except RuntimeError as error:
            raise BrokenOutput(
                f"TensorFlow Lite Micro can't run {self.artifact.path.name}: {error}", running=True
            ) from error
        found = {}
        for port, index in self.outputs:
            details = self.interpreter.get_output_details(index)
            array = self.interpreter.get_output(index).copy()
            found[port.name] = to_given_layout(to_real(array, details), port)
        return found

    def arena(self) -> dict[str, int]:
        """Bytes by what they are for, once it has run: head for tensors, tail for bookkeeping."""
        told = _told(self.interpreter.print_allocations)
        return {name: int(size) for name, size in _USED.findall("\n".join(told))}

    def close(self) -> None:
        self.interpreter = None
        self.inputs, self.outputs = [], []


def measure(artifact: dict[str, Any], feeds: str, outputs: str, count: int) -> dict[str, Any]:
    """A worker's job: run the first samples, and say what the arena was."""
    import itertools

    from edgepipe import tensors

    with TfliteMicroRunner(Artifact.from_json(artifact)) as runner:
        assert isinstance(runner, TfliteMicroRunner)
        samples = itertools.islice(tensors.read(Path(feeds)), count)
        tensors.write(Path(outputs), [runner.infer(sample) for sample in samples])
        return runner.arena()


def _told(speak: Callable[[], None]) -> list[str]:
    """What C++ functions write to standard error, which no Python object sees, by line."""
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        os.dup2(file.fileno(), 2)
        try:
            speak()
            sys.stderr.flush()
        finally:
            os.dup2(before, 2)
            os.close(before)
        file.seek(0)
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [line for line in lines if line.strip()]
