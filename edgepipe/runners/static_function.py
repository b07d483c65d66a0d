"""A model as one traced TensorFlow function over flat tensors, its inputs of fixed shapes."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import BrokenOutput, EdgepipeError, UnsupportedModel
from edgepipe.inputs import words
from edgepipe.runner import timed
from edgepipe.runners.feeding import cast, pick
from edgepipe.runners.keras_loading import tensorflow
from edgepipe.runners.keras_model import dtype_of, open_keras, shape_of
from edgepipe.runners.keras_unrolling import unroll
from edgepipe.runners.saved_function import open_saved_model

if TYPE_CHECKING:
    from edgepipe.runner import Tensors

log = logging.getLogger(__name__)

OP_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
"""What TensorFlow allows as the name of an operation (tensorflow/python/framework/ops.py)."""


class Model(Protocol):
    """A loaded model: `output_names` are settled once it was called."""

    @property
    def holder(self) -> Any:
        """The object that keeps the variables alive."""

    def call(self, tensors: Sequence[Any]) -> list[Any]: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class StaticFunction:
    """`concrete` takes and gives flat tensors, `signature` names them, `model` holds variables."""

    concrete: Any
    signature: Signature
    model: Model

    def infer(self, feeds: Tensors) -> Tensors:
        pairs = zip(self.signature.outputs, self._run(feeds), strict=True)
        return {port.name: one.numpy() for port, one in pairs}

    def latency(self, feeds: Tensors, repeats: int, warmup: int) -> list[float]:
        """Seconds of the function alone; the feeds become tensors once, before."""
        tensors = self._tensors(feeds)

        def run() -> None:
            for one in self.concrete(*tensors):
                one.numpy()  # A GPU is still at work when the call returns; a CPU copies nothing.

        return timed(run, repeats, warmup)

    def _tensors(self, feeds: Tensors) -> list[Any]:
        tf = tensorflow()
        ports = self.signature.inputs
        arrays = [cast(pick(feeds, one, ports), one.dtype, one.name) for one in ports]
        return [tf.constant(array) for array in arrays]

    def _run(self, feeds: Tensors) -> list[Any]:
        tf, tensors = tensorflow(), self._tensors(feeds)
        try:
            found: list[Any] = self.concrete(*tensors)
        except tf.errors.OpError as error:
            first = str(error.message).partition("\n")[0]
            raise BrokenOutput(f"TensorFlow can't run the model: {first}", running=True) from error
        return found

    def placement(self, feeds: Tensors) -> list[dict[str, Any]]:
        """The outputs, by the device that gave them: `/job:localhost/.../device:CPU:0`."""
        found = self._run(feeds)
        names = [port.name for port in self.signature.outputs]
        return [
            {"op": "output", "name": name, "device": one.device.rpartition("device:")[2]}
            for name, one in zip(names, found, strict=True)
        ]

    def weight_bytes(self) -> int:
        """Bytes of all variables: what a single protobuf file may not hold beyond 2 GB."""
        return sum(_bytes_of(variable) for variable in self.concrete.graph.variables)


def open_static(artifact: Artifact, unrolled: bool = False, xla: bool = False) -> StaticFunction:
    """Load the model of an artifact and trace it with the shapes that its signature fixes.

    With `xla` it is compiled when it is run first.
    """
    model: Model
    if artifact.format is Format.SAVED_MODEL:
        model = open_saved_model(artifact)
    else:
        model = opened = open_keras(artifact)
        if unrolled:
            unroll(opened.model)
    inputs = tuple(replace(port, tensor="", permutation=None) for port in artifact.ends().inputs)
    concrete = trace(model, inputs, xla)
    outputs = tuple(
        Port(name, shape_of(tensor.shape), dtype_of(tensor.dtype))
        for name, tensor in zip(model.output_names, concrete.outputs, strict=True)
    )
    return StaticFunction(concrete, Signature(inputs, outputs), model)


def trace(model: Model, inputs: Sequence[Port], xla: bool = False) -> Any:
    """A concrete function over flat tensors with the shapes of these ports, as far as they go."""
    tf = tensorflow()
    names = op_names([port.name for port in inputs])
    specs = [tensor_spec(port, name) for port, name in zip(inputs, names, strict=True)]

    def flat(*tensors: Any) -> list[Any]:
        found = model.call(tensors)
        names = op_names(model.output_names)
        return [tf.identity(one, name=name) for one, name in zip(found, names, strict=True)]

    # Autograph would rewrite this package too; `KerasModel.call` grants it to Keras 2 layers.
    try:
        made = tf.function(flat, autograph=False, jit_compile=True if xla else None)
        return made.get_concrete_function(*specs)
    except EdgepipeError:
        raise
    except Exception as error:
        taken = "; ".join(words(port) for port in inputs)
        raise UnsupportedModel(
            f"TensorFlow can't trace the model on {taken}: {type(error).__name__}: {error}",
            hint="are these the shapes that it takes? Set them with --input.",
        ) from error


def tensor_spec(port: Port, name: str) -> Any:
    return tensorflow().TensorSpec(port.shape, port.dtype, name=name)


def op_names(names: Sequence[str]) -> list[str]:
    """A name for each tensor that TensorFlow accepts: its own where that is possible."""
    return [
        name if OP_NAME.fullmatch(name) else f"tensor_{place}" for place, name in enumerate(names)
    ]


def freeze(concrete: Any, *, lower_loops: bool = True) -> Any:
    """The same function with its variables as constants and its functions inlined."""
    convert = importlib.import_module("tensorflow.python.framework.convert_to_constants")
    return convert.convert_variables_to_constants_v2(
        concrete, lower_control_flow=lower_loops, aggressive_inlining=True
    )


def _bytes_of(variable: Any) -> int:
    count = 1
    for size in variable.shape:
        count *= int(size or 1)
    return count * int(variable.dtype.size)


def limit_threads(threads: int) -> None:
    """TensorFlow takes a number of threads only before its first operation in a process."""
    if not threads:
        return
    tf = tensorflow()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        log.warning("TensorFlow keeps its threads, %d were asked for: %s", threads, error)
