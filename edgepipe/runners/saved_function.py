"""A signature of a SavedModel seen as a function of flat, named tensors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepipe.artifact import Artifact, Port
from edgepipe.errors import TrustRequired, UnknownFormat, UnsupportedModel
from edgepipe.runners.keras_loading import tensorflow
from edgepipe.runners.keras_model import dtype_of, leaves, shape_of

DEFAULT = "serving_default"
ACTING_OPS = frozenset(("PyFunc", "PyFuncStateless", "EagerPyFunc", "WriteFile", "ReadFile"))
"""Ops of a graph that reach outside it; what saves and restores is not in a signature."""


@dataclass(frozen=True)
class SavedFunction:
    """A loaded signature. `holder` keeps the variables alive, which the signature does not."""

    holder: Any
    signature: Any
    signature_name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.outputs)

    def call(self, tensors: Sequence[Any]) -> list[Any]:
        feeds = {port.name: one for port, one in zip(self.inputs, tensors, strict=True)}
        found = self.signature(**feeds)
        return [found[name] for name in self.output_names]


def open_saved_model(artifact: Artifact) -> SavedFunction:
    """Load the folder and take `serving_default`, or the only signature that there is."""
    tf = tensorflow()
    try:
        holder = tf.saved_model.load(str(artifact.path))
    except Exception as error:
        raise UnknownFormat(
            f"TensorFlow can't load the SavedModel {artifact.path}:"
            f" {type(error).__name__}: {str(error).partition(chr(10))[0][:300]}",
            hint="is the folder complete, with `variables/` beside saved_model.pb?",
        ) from error
    name = _choose(artifact, list(holder.signatures))
    signature = holder.signatures[name]
    _refuse_acting(artifact, signature)
    inputs, outputs = _ends(holder, signature)
    return SavedFunction(holder, signature, name, inputs, outputs)


def _choose(artifact: Artifact, names: list[str]) -> str:
    if DEFAULT in names:
        return DEFAULT
    # TensorFlow adds a no-op signature to models that only initialise or train.
    callable_names = [name for name in names if not name.startswith("__saved_model_")]
    if len(callable_names) == 1:
        return callable_names[0]
    listed = ", ".join(sorted(callable_names)) or "none"
    raise UnsupportedModel(
        f"{artifact.path} has no signature {DEFAULT!r}; its signatures are: {listed}",
        hint="save it with one: `model.export(folder)` in Keras 3, or"
        " `tf.saved_model.save(model, folder, signatures={'serving_default': function})`.",
        signatures=sorted(callable_names),
    )


def _refuse_acting(artifact: Artifact, signature: Any) -> None:
    acting = sorted(ACTING_OPS & set(op_types(signature)))
    if acting and not artifact.loading.trust:
        raise TrustRequired(
            f"the SavedModel {artifact.path} reaches outside its graph: {', '.join(acting)}",
            hint="add --trust if you know where this model comes from.",
            ops=acting,
        )


def op_types(signature: Any) -> list[str]:
    """The types of all ops of a signature, in its graph and in the functions that it calls."""
    graph = signature.graph.as_graph_def()
    functions = [node for function in graph.library.function for node in function.node_def]
    return [node.op for node in [*graph.node, *functions]]


def _ends(holder: Any, signature: Any) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Names by signature key. A signature sorts them; `serve`, where there is one, did not."""
    taken: dict[str, Any] = signature.structured_input_signature[1]
    given: dict[str, Any] = signature.structured_outputs
    inputs = _model_order(holder, list(taken)) or list(taken)
    return (
        tuple(
            Port(name, shape_of(taken[name].shape), dtype_of(taken[name].dtype)) for name in inputs
        ),
        tuple(
            Port(name, shape_of(given[name].shape), dtype_of(given[name].dtype))
            for name in sorted(given, key=_natural)
        ),
    )


def _model_order(holder: Any, names: list[str]) -> list[str] | None:
    """The order of the positional arguments that Keras exported, if those are the same inputs."""
    serve = getattr(holder, "serve", None)
    for concrete in getattr(serve, "concrete_functions", ()):
        ordered = [str(spec.name) for _, spec in leaves(concrete.structured_input_signature[0])]
        if sorted(ordered) == sorted(names):
            return ordered
    return None


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts output_10 behind output_9."""
    return [
        (int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)
    ]
