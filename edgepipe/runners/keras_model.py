"""A Keras model seen as a function of flat, named tensors: its ends, its layers, and its call."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import UnsupportedModel
from edgepipe.runners.keras_config import saved_parameters
from edgepipe.runners.keras_loading import Loaded, load_keras, tensorflow
from edgepipe.runners.user_code import raised_by_user, told


@dataclass(frozen=True)
class KerasModel:
    """A loaded model; `pack` puts flat tensors into the arguments that it is called with.

    `declared` names the outputs of a model that knows them; those of a subclassed one are told
    by the paths of what its first call returned, kept in `paths`.
    """

    model: Any
    generation: str
    inputs: tuple[Port, ...]
    declared: tuple[str, ...]
    pack: Callable[[Sequence[Any]], list[Any]]
    artifact: Artifact
    paths: list[str] = field(default_factory=list)

    @property
    def holder(self) -> Any:
        return None

    @property
    def output_names(self) -> tuple[str, ...]:
        if self.declared:
            return self.declared
        named = [path or "output" for path in self.paths]
        named = [f"output_{path}" if path.isdigit() else path for path in named]
        taken = [port.name for port in self.inputs]
        return tuple(unique([*taken, *named])[len(taken) :])

    def call(self, tensors: Sequence[Any]) -> list[Any]:
        """The outputs in inference mode, flat, in the order of `output_names`."""
        training = {"training": False} if _takes_training(self.model) else {}
        try:
            with _autograph(self.generation):
                found = list(leaves(self.model(*self.pack(tensors), **training)))
            self.paths[:] = [path for path, _ in found]
            return [leaf for _, leaf in found]
        except Exception as error:
            folders = self.artifact.loading.python_path
            if raised_by_user(error, folders):
                raise told(error, f"running {self.artifact.path} failed", folders) from error
            raise


def open_keras(artifact: Artifact) -> KerasModel:
    """Load the model and find its inputs; how it was built tells those of a subclassed one."""
    loaded = load_keras(artifact)
    if getattr(loaded.model, "inputs", None):
        return _open_graph(loaded, artifact)
    return _open_subclass(loaded, artifact)


def _open_graph(loaded: Loaded, artifact: Artifact) -> KerasModel:
    """A Functional or Sequential model, which knows its own tensors."""
    model = loaded.model
    inputs = unique([_history_name(tensor) for tensor in model.inputs])
    ports = tuple(
        Port(name, shape_of(tensor.shape), dtype_of(tensor.dtype))
        for name, tensor in zip(inputs, model.inputs, strict=True)
    )
    outputs = _graph_output_names(model)
    return KerasModel(
        model,
        loaded.generation,
        ports,
        tuple(unique([*inputs, *outputs])[len(inputs) :]),
        _packer(model, loaded.generation),
        artifact,
    )


def _packer(model: Any, generation: str) -> Callable[[Sequence[Any]], list[Any]]:
    structure = getattr(model, "_inputs_struct" if generation == "3" else "_nested_inputs", None)

    def pack(tensors: Sequence[Any]) -> list[Any]:
        if structure is None:
            return [tensors[0] if len(tensors) == 1 else list(tensors)]
        return [tensorflow().nest.pack_sequence_as(structure, list(tensors))]

    return pack


def _history_name(tensor: Any) -> str:
    """The layer's name: a tensor's own is counted up anew by each load in a process."""
    return str(tensor._keras_history[0].name)


def _graph_output_names(model: Any) -> list[str]:
    """Keys where the model returns a dict, else the names of the layers that the outputs leave."""
    structure = getattr(model, "_outputs_struct", getattr(model, "_nested_outputs", None))
    named = [_history_name(tensor) for tensor in model.outputs]
    if isinstance(structure, dict):
        return [path or name for (path, _), name in zip(leaves(structure), named, strict=True)]
    return named


def _open_subclass(loaded: Loaded, artifact: Artifact) -> KerasModel:
    """A subclassed model: the arguments of its `call`, with the shapes that it was built for."""
    model = loaded.model
    arguments = _call_arguments(model)
    if not arguments or _lacks_weights(model, artifact):
        raise UnsupportedModel(
            f"{artifact.path} holds the subclassed model {type(model).__name__!r}, which Keras"
            " can't build from its file: its weights would be random",
            hint="give its class a `build` that takes the input shapes, or save it with"
            " `model.export(folder)`.",
        )
    shapes = _built_shapes(model, arguments)
    dtype = dtype_of(getattr(model, "input_dtype", None) or model.compute_dtype)
    ports = tuple(Port(name, shapes.get(name), dtype) for name in arguments)
    return KerasModel(model, loaded.generation, ports, (), list, artifact)


def _lacks_weights(model: Any, artifact: Artifact) -> bool:
    """Keras only warns when it can't build a model, and then restores none of its weights."""
    if all(layer.built for layer in model._flatten_layers()) and model.built:
        return False
    return artifact.format is not Format.KERAS or saved_parameters(artifact.path) > int(
        model.count_params()
    )


def _call_arguments(model: Any) -> list[str]:
    taken = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [
        name
        for name, parameter in inspect.signature(model.call).parameters.items()
        if parameter.kind in taken
        and parameter.default is inspect.Parameter.empty
        and name not in ("training", "mask")
    ]


def _built_shapes(model: Any, arguments: Sequence[str]) -> dict[str, tuple[int | None, ...]]:
    """Keras keeps shapes by argument of `build` ('x_shape'), with the batch it was built on."""
    config = model.get_build_config() or {}
    shapes = config.get("shapes_dict") or {arguments[0]: config.get("input_shape")}
    found: dict[str, tuple[int | None, ...]] = {}
    for name, shape in shapes.items():
        if isinstance(shape, (list, tuple)) and all(
            size is None or isinstance(size, int) for size in shape
        ):
            found[name.removesuffix("_shape")] = (None, *shape[1:])
    return found


def _autograph(generation: str) -> AbstractContextManager[Any]:
    """Keras 2 rewrites `if tensor:` of a custom layer where this says so; Keras 3 never does."""
    if generation == "3":
        return nullcontext()
    context = importlib.import_module("tensorflow.python.autograph.core.ag_ctx")
    enabled: AbstractContextManager[Any] = context.ControlStatusCtx(context.Status.ENABLED)
    return enabled


def _takes_training(model: Any) -> bool:
    parameters = inspect.signature(model.call).parameters
    return "training" in parameters or any(
        one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()
    )


def ends_of(opened: KerasModel, concrete: Any | None) -> Signature:
    """Both ends: the outputs that the model declares, else those of its trace, if there is one."""
    tensors = opened.model.outputs if opened.declared else concrete.outputs if concrete else ()
    names = opened.output_names if tensors else ()
    outputs = tuple(
        Port(name, shape_of(tensor.shape), dtype_of(tensor.dtype))
        for name, tensor in zip(names, tensors, strict=True)
    )
    return Signature(opened.inputs, outputs)


def count_layers(model: Any) -> Counter[str]:
    """Layers by class; those of a model within the model are counted in its place."""
    counts: Counter[str] = Counter()
    for layer in model.layers:
        counts.update(count_layers(layer) if hasattr(layer, "layers") else [type(layer).__name__])
    return counts


def stateful_layers(model: Any) -> list[str]:
    """Recurrent layers that carry their state from one call to the next."""
    found = []
    for layer in model.layers:
        if hasattr(layer, "layers"):
            found += stateful_layers(layer)
        elif hasattr(layer, "return_sequences") and getattr(layer, "stateful", False):
            found.append(str(layer.name))
    return found


def leaves(structure: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Tensors of a nested result with their paths, dicts by sorted key as Keras flattens them."""
    if isinstance(structure, dict):
        for key in sorted(structure):
            yield from leaves(structure[key], f"{path}.{key}" if path else str(key))
    elif isinstance(structure, (list, tuple)):
        for place, item in enumerate(structure):
            yield from leaves(item, f"{path}.{place}" if path else str(place))
    elif structure is not None:
        yield path, structure


def unique(names: Sequence[str]) -> list[str]:
    """The names, the second of a kind and on with the lowest free number behind it."""
    taken = set(names)
    seen: set[str] = set()
    found = []
    for name in names:
        fresh, number = name, 0
        while fresh in seen or (number and fresh in taken):
            number += 1
            fresh = f"{name}_{number}"
        seen.add(fresh)
        found.append(fresh)
    return found


def shape_of(shape: Any) -> tuple[int | None, ...] | None:
    """A framework's shape as plain numbers; None where not even the rank is known."""
    if shape is None or getattr(shape, "rank", 0) is None:
        return None
    return tuple(None if size is None else int(size) for size in shape)


def dtype_of(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))
