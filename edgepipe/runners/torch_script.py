"""How a TorchScript module is called, and what of it no other format can carry."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from edgepipe.errors import UnsupportedModel

TENSORS = ("Tensor", "Optional[Tensor]")


@dataclass(frozen=True)
class Calling:
    """Names of its tensor arguments; what else it takes keeps its default."""

    required: tuple[str, ...]
    optional: tuple[str, ...]


def read(module: Any, file: str) -> Calling:
    """Refuses what would convert to something else: remembered state, arguments without a value."""
    _refuse_state(module, file)
    arguments = module.forward.schema.arguments[1:]
    tensors = [a for a in arguments if str(a.type) in TENSORS]
    others = [a for a in arguments if str(a.type) not in TENSORS]
    for argument in others:
        if not argument.has_default_value():
            raise UnsupportedModel(
                f"argument {argument.name!r} of {file!r} is of type {argument.type}, expected"
                " a tensor",
                hint=f"{_ways_out(module)}.",
            )
    return Calling(
        required=tuple(a.name for a in tensors if not a.has_default_value()),
        optional=tuple(a.name for a in tensors if a.has_default_value()),
    )


def _refuse_state(module: Any, file: str) -> None:
    graph = _eval_graph(module)  # has to outlive its nodes
    names = sorted({node.s("name") for node in graph.findAllNodes("prim::SetAttr")})
    if names:
        raise UnsupportedModel(
            f"{file!r} keeps state between calls in {', '.join(names)}; a converted model would"
            " start from nothing at each call",
            hint=f"{_ways_out(module)}; the state has to be an input and an output.",
            state=names,
        )


def _eval_graph(module: Any) -> Any:
    """Frozen: batch-norms of old versions count batches in the branch for training."""
    torch = import_module("torch")
    if not getattr(module, "training", True):
        module = torch.jit.freeze(module)
    return module.inlined_graph


def _ways_out(module: Any) -> str:
    children = [name for name, child in module.named_children() if hasattr(child, "forward")]
    inner = f" (it has submodules {', '.join(children)})" if children else ""
    return f"give a factory that returns the part with tensor inputs and outputs only{inner}"
