"""A loaded PyTorch model as a function of named tensors, whichever way it was saved."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import starmap
from typing import Any

from edgepipe.artifact import Artifact, Format, Port
from edgepipe.errors import InputError, UnsupportedModel

from . import torch_script
from .torch_errors import first_sentence
from .torch_loading import load


@dataclass(frozen=True)
class TorchModel:
    """`call(module, feeds)` runs it on tensors by name; `outputs` are () if only a run can tell."""

    module: Any
    kind: Format
    inputs: tuple[Port, ...]
    optional: tuple[str, ...]
    call: Callable[[Any, Mapping[str, Any]], Any]
    outputs: tuple[Port, ...] = ()
    graph: Any = None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name, without gradients."""
        torch = import_module("torch")
        try:
            with torch.no_grad():
                result = self.call(self.module, feeds)
        except Exception as error:  # The user's forward may raise anything.
            raise InputError(
                f"the model can't run on {', '.join(starmap(_words, feeds.items()))}:"
                f" {type(error).__name__}: {first_sentence(error)}",
                hint="are shape and type right? --input name=1x3x224x224:float32 sets them.",
            ) from error
        return name_outputs(result, feeds)


def _words(name: str, tensor: Any) -> str:
    return f"{name} {'x'.join(map(str, tensor.shape)) or 'scalar'} {dtype_name(tensor.dtype)}"


def open_model(artifact: Artifact) -> TorchModel:
    """Load it, and find out how it is called."""
    loaded = load(artifact)
    if artifact.format is Format.TORCH_EXPORT:
        return _from_export(loaded)
    if isinstance(loaded, import_module("torch").jit.ScriptModule):
        return _from_script(loaded, artifact)
    return _from_eager(loaded, artifact)


def _from_export(program: Any) -> TorchModel:
    """Leaves of the call that are no tensors were fixed when it was exported."""
    pytree = import_module("torch.utils._pytree")
    user = [spec for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    leaves = [(getattr(spec.arg, "name", ""), getattr(spec.arg, "value", None)) for spec in user]
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    torch = import_module("torch")
    inputs = tuple(
        _port(name, values[name]) for name, _ in leaves if torch.is_tensor(values.get(name))
    )
    names = {port.name for port in inputs}

    def call(module: Any, feeds: Mapping[str, Any]) -> Any:
        flat = [feeds[name] if name in names else value for name, value in leaves]
        args, kwargs = pytree.tree_unflatten(flat, program.call_spec.in_spec)
        return module(*args, **kwargs)

    outputs = _export_outputs(program, values, names)
    return TorchModel(
        program.module(), Format.TORCH_EXPORT, inputs, (), call, outputs, program.graph
    )


def _export_outputs(program: Any, values: Mapping[str, Any], taken: set[str]) -> tuple[Port, ...]:
    pytree = import_module("torch.utils._pytree")
    user = [s for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    flat = [values.get(getattr(spec.arg, "name", "")) for spec in user]
    result = pytree.tree_unflatten(flat, program.call_spec.out_spec)
    return tuple(_port(name, value) for name, value in name_outputs(result, taken).items())


def _port(name: str, value: Any) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Port(name, shape, dtype_name(value.dtype))


def dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _from_script(module: Any, artifact: Artifact) -> TorchModel:
    calling = torch_script.read(module, artifact.loading.factory or artifact.path.name)
    inputs = _choose(calling.required, calling.optional, False, artifact)

    def call(script: Any, feeds: Mapping[str, Any]) -> Any:
        return script(**{port.name: feeds[port.name] for port in inputs})

    return TorchModel(
        module, Format.TORCHSCRIPT, inputs, calling.optional, call, (), module.inlined_graph
    )


def _from_eager(module: Any, artifact: Artifact) -> TorchModel:
    parameters = inspect.signature(module.forward).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = tuple(p.name for p in named if p.default is p.empty)
    optional = tuple(p.name for p in named if p.default is not p.empty)
    by_keyword = {p.name for p in named if p.kind is p.KEYWORD_ONLY} | set(optional)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    inputs = _choose(required, optional, variadic, artifact)

    def call(eager: Any, feeds: Mapping[str, Any]) -> Any:
        args = [feeds[port.name] for port in inputs if port.name not in by_keyword]
        kwargs = {p.name: feeds[p.name] for p in inputs if p.name in by_keyword}
        return eager(*args, **kwargs)

    return TorchModel(module, artifact.format, inputs, optional, call)


def _choose(
    required: Sequence[str], optional: Sequence[str], variadic: bool, artifact: Artifact
) -> tuple[Port, ...]:
    """Required inputs, and of the optional ones those that the signature names."""
    given = {} if artifact.signature is None else {p.name: p for p in artifact.signature.inputs}
    known = [*required, *optional]
    rest = [name for name in given if name not in known]
    if rest and not variadic:
        raise InputError(
            f"the model's forward has no input {rest[0]!r}",
            hint=f"it takes: {', '.join(known) or 'nothing'}.",
            known=known,
        )
    names = [*required, *(name for name in optional if name in given), *rest]
    if variadic and not names:
        names = ["input"]
    return tuple(given.get(name, Port(name, None, "float32")) for name in names)


def name_outputs(result: Any, taken: Mapping[str, Any] | set[str]) -> dict[str, Any]:
    """Keys of a dict, fields of a dataclass, `output` for one tensor, `output_0`... for several.

    A name that an input has already gets `_out` behind it: ONNX has one space for both.
    """
    leaves = list(_leaves(result, ()))
    if not leaves:
        raise UnsupportedModel(
            f"the model returned {type(result).__name__}, expected tensors",
            hint="forward may return a tensor, or a tuple, list, dict or dataclass of tensors.",
        )
    named: dict[str, Any] = {}
    for path, tensor in leaves:
        alone = len(leaves) == 1 and all(isinstance(key, int) for key in path)
        name = "output" if alone else _name(path)
        while name in taken or name in named:
            name += "_out"
        named[name] = tensor
    return named


def _name(path: tuple[str | int, ...]) -> str:
    head = ["output"] if isinstance(path[0], int) else []
    return "_".join([*head, *map(str, path)])


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Tensors in a nest of tuples, lists, dicts and dataclasses; None and plain numbers are not."""
    if import_module("torch").is_tensor(value):
        yield path, value
        return
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = list(zip(value._fields, value, strict=True))
    elif isinstance(value, (tuple, list)):
        items = list(enumerate(value))
    for key, item in items:
        yield from _leaves(item, (*path, key))


def sample(port: Port) -> Any:
    """A tensor to trace with: seeded noise, zeros for integers, which may be indices."""
    torch = import_module("torch")
    if port.shape is None or None in port.shape:
        raise InputError(
            f"the shape of input {port.name!r} is not fixed: {port.shape}",
            hint=f"set it, for instance --input {port.name}=1x3x224x224:{port.dtype}",
        )
    dtype = getattr(torch, port.dtype)
    if not dtype.is_floating_point:
        return torch.zeros(port.shape, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(port.shape, generator=generator).to(dtype)
