"""A PyTorch model as a plain `nn.Module` of positional tensors, which every exporter can take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from edgepipe.artifact import Artifact
from edgepipe.errors import StageFailed
from edgepipe.runners.torch_ends import TorchModel, name_outputs, open_model, sample

Axes = tuple[int, ...]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def prepare(artifact: Artifact) -> TorchModel:
    """Load the model for an exporter.

    The fast path of `nn.TransformerEncoder` is one fused op that no exporter knows.
    """
    import_module("torch").backends.mha.set_fastpath_enabled(False)
    return open_model(artifact)


def samples(artifact: Artifact) -> dict[str, Any]:
    """A tensor for every input of the artifact, in its order."""
    return {port.name: sample(port) for port in artifact.ends().inputs}


def positional(
    model: TorchModel,
    names: list[str],
    inputs: Mapping[str, Axes] | None = None,
    outputs: Mapping[str, Axes] | None = None,
) -> Any:
    """A module whose forward takes tensors in the order of `names` and returns a tuple of tensors.

    `inputs` and `outputs` are permutations from the model's layout to that of the new module.
    """
    torch = import_module("torch")
    back = {name: inverse(axes) for name, axes in (inputs or {}).items()}
    ahead = outputs or {}

    def forward(self: Any, *tensors: Any) -> tuple[Any, ...]:
        feeds = dict(zip(names, tensors, strict=True))
        given = {name: _permuted(tensor, back.get(name)) for name, tensor in feeds.items()}
        made = name_outputs(model.call(self.wrapped, given), feeds)
        return tuple(_permuted(tensor, ahead.get(name)) for name, tensor in made.items())

    module = type("Positional", (torch.nn.Module,), {"forward": forward})().eval()
    module.wrapped = model.module  # after eval(): an exported module refuses it
    return module


def _permuted(tensor: Any, axes: Axes | None) -> Any:
    return tensor if axes is None else tensor.permute(axes)


def inverse(axes: Axes) -> Axes:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def without_script(module: Any, feeds: Mapping[str, Any]) -> Any:
    """Aten ops instead of TorchScript, which `torch.export` refuses.

    Runs it once and notes the ops: branches and loops are decided by the shapes that are pinned.
    `TS2EPConverter`, which the error of `torch.export` names, fails at prim::If (torch 2.13).
    """
    if not holds_script(module):
        return module
    torch = import_module("torch")
    tracing = import_module("torch.fx.experimental.proxy_tensor")
    aten = torch.ops.aten
    # Traced modules hold `_convolution`, with four flags for cuDNN more; no exporter knows it.
    plain = {aten._convolution.default: lambda *args: aten.convolution.default(*args[:9])}
    with torch.no_grad():
        return tracing.make_fx(module, decomposition_table=plain)(*feeds.values()).eval()


def holds_script(module: Any) -> bool:
    """Is any part of it TorchScript? It may be below a module that a factory made."""
    script = import_module("torch").jit.ScriptModule
    return any(isinstance(part, script) for part in module.modules())


def failed(tool: str, error: Exception) -> StageFailed:
    """The cause at the bottom of torch's chain of exceptions, without its pages of advice."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in ANSI.sub("", str(cause)).splitlines() if line.strip()]
    said = " ".join(lines[:2])[:400]
    return StageFailed(f"{tool} raised {type(cause).__name__}: {said or 'no message'}")
