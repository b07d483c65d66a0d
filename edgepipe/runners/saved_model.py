"""Runs a signature of a TensorFlow SavedModel."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Artifact, Format, Signature
from edgepipe.runner import Description, Runner
from edgepipe.runners.saved_function import SavedFunction, op_types, open_saved_model
from edgepipe.runners.static_function import limit_threads, open_static, trace
from edgepipe.runners.table_bounds import bounded
from edgepipe.runners.tensorflow_device import TensorflowOptions, use_device

if TYPE_CHECKING:
    from edgepipe.runner import Tensors


class SavedModelRunner(Runner):
    """`serving_default`, or the only signature that there is."""

    formats = (Format.SAVED_MODEL,)
    toolchain = "keras"
    options = TensorflowOptions
    preload = ("edgepipe.runners.keras_environment", "tensorflow")

    @classmethod
    def describe(cls, artifact: Artifact) -> Description:
        opened = open_saved_model(artifact)
        ops = Counter(op_types(opened.signature))
        signature = Signature(opened.inputs, opened.outputs)
        looks_up = any(name in ops for name in ("Gather", "GatherV2", "ResourceGather"))
        return Description(
            signature=_bounded(opened, signature) if looks_up else signature,
            ops=dict(ops),
            parameters=_parameters(opened),
            facts={"signature": opened.signature_name, "tensorflow": _version(opened)},
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


def _bounded(opened: SavedFunction, signature: Signature) -> Signature:
    return bounded(signature, trace(opened, opened.inputs))


def _parameters(opened: SavedFunction) -> int | None:
    """Elements of the variables; a model that was saved frozen has none."""
    variables = opened.signature.variables
    if not variables:
        return None
    return sum(int(variable.shape.num_elements() or 0) for variable in variables)


def _version(opened: SavedFunction) -> str:
    return str(getattr(opened.holder, "tensorflow_version", ""))
