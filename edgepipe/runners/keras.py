"""Runs Keras 3 and Keras 2 models, traced once as a TensorFlow function, in inference mode."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.runner import Description, Runner
from edgepipe.runners.keras_model import (
    KerasModel,
    count_layers,
    ends_of,
    open_keras,
    stateful_layers,
)
from edgepipe.runners.static_function import limit_threads, open_static, trace
from edgepipe.runners.table_bounds import bounded
from edgepipe.runners.tensorflow_device import TensorflowOptions, use_device

if TYPE_CHECKING:
    from edgepipe.runner import Tensors


class KerasRunner(Runner):
    """`.keras` and `.h5` files, by the generation of Keras that loads them."""

    formats = (Format.KERAS, Format.KERAS_H5)
    toolchain = "keras"
    options = TensorflowOptions
    preload = ("edgepipe.runners.keras_environment", "tensorflow", "keras")

    @classmethod
    def describe(cls, artifact: Artifact) -> Description:
        opened = open_keras(artifact)
        layers = count_layers(opened.model)
        opened = replace(opened, inputs=_known_inputs(opened.inputs, artifact.signature))
        concrete = _traced(opened) if "Embedding" in layers or not opened.declared else None
        signature = ends_of(opened, concrete)
        facts: dict[str, Any] = {"keras": opened.generation, "class": type(opened.model).__name__}
        if stateful := stateful_layers(opened.model):
            facts["stateful_layers"] = stateful
        return Description(
            signature=bounded(signature, concrete) if concrete else signature,
            ops=dict(layers),
            parameters=int(opened.model.count_params()),
            facts=facts,
        )

    def load(self) -> None:
        limit_threads(self.threads)
        use_device(self.device)
        self._function = open_static(self.artifact, xla=self.settings.xla)

    def infer(self, feeds: Tensors) -> Tensors:
        return self._function.infer(feeds)

    def latency(self, feeds: Tensors, repeats: int = 10, warmup: int = 2) -> list[float]:
        return self._function.latency(feeds, repeats, warmup)

    def placement(self, feeds: Tensors) -> list[dict[str, Any]]:
        return self._function.placement(feeds)

    def close(self) -> None:
        self.__dict__.pop("_function", None)


def _known_inputs(inputs: tuple[Port, ...], given: Signature | None) -> tuple[Port, ...]:
    """The model's own inputs, with what the user said of those that the model can't tell."""
    said = {port.name: port for port in given.inputs} if given else {}
    return tuple(said.get(port.name, port) if port.shape is None else port for port in inputs)


def _traced(opened: KerasModel) -> Any | None:
    """The model's graph with its open dimensions, None where an input's shape must be asked for."""
    if any(port.shape is None for port in opened.inputs):
        return None
    return trace(opened, opened.inputs)
