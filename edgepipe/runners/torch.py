"""PyTorch models in PyTorch itself: the baseline that every conversion is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe import gpu
from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import InputError, InternalError
from edgepipe.runner import Description, Runner, timed

from .torch_ends import TorchModel, dtype_name, open_model, sample

if TYPE_CHECKING:
    from edgepipe.runner import Tensors


class TorchRunner(Runner):
    """Eval mode, no gradients; the CPU, or a GPU where one is asked for."""

    formats: ClassVar[tuple[Format, ...]] = (
        Format.TORCH_EXPORT,
        Format.TORCHSCRIPT,
        Format.TORCH_PICKLE,
        Format.TORCH_SOURCE,
    )
    toolchain: ClassVar[str] = "torch"
    preload: ClassVar[tuple[str, ...]] = ("torch",)
    _model: TorchModel | None = None
    _place: Any = None

    @classmethod
    def describe(cls, artifact: Artifact) -> Description:
        model = open_model(artifact)
        facts: dict[str, Any] = {"class": _class_name(model)}
        if model.optional:
            facts["optional_inputs"] = list(model.optional)
        if artifact.format is Format.TORCH_SOURCE and not artifact.loading.weights:
            facts["weights"] = "as the factory leaves them"
        outputs = model.outputs or _outputs_by_running(model, artifact, facts)
        return Description(
            signature=Signature(model.inputs, outputs),
            ops=_ops(model),
            parameters=_parameters(model.module),
            facts=facts,
        )

    def load(self) -> None:
        torch = import_module("torch")
        if self.threads:
            torch.set_num_threads(self.threads)
        self._model = open_model(self.artifact)
        if gpu.is_gpu(self.device):
            self._place = _cuda(torch)
            self._model.module.to(self._place)

    def infer(self, feeds: Tensors) -> Tensors:
        model = self._loaded()
        return _to_numpy(model.run(self._fed(model, feeds)))

    def latency(self, feeds: Tensors, repeats: int = 10, warmup: int = 2) -> list[float]:
        """Seconds of the forward alone; the feeds become tensors where it runs once, before."""
        model, torch = self._loaded(), import_module("torch")
        fed = self._fed(model, feeds)

        def run() -> None:
            model.run(fed)
            if self._place is not None:  # A GPU is still at work when the call returns.
                torch.cuda.synchronize()

        return timed(run, repeats, warmup)

    def _loaded(self) -> TorchModel:
        if self._model is None:
            raise InternalError("infer was called before load")
        return self._model

    def _fed(self, model: TorchModel, feeds: Tensors) -> dict[str, Any]:
        fed = _tensors(model, feeds)
        if self._place is None:
            return fed
        return {name: tensor.to(self._place) for name, tensor in fed.items()}

    def placement(self, feeds: Tensors) -> list[dict[str, Any]]:
        """Modules that hold weights, by where these are: there PyTorch computes with them."""
        del feeds
        if self._model is None:
            return []
        module = self._model.module
        return [
            {"op": type(part).__name__, "name": name, "device": str(held[0].device)}
            for name, part in module.named_modules()
            if (held := list(part.parameters(recurse=False)))
        ]

    def close(self) -> None:
        self._model = None


def _cuda(torch: Any) -> Any:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f"it is built for CUDA {built} and sees no device" if built else "it is built without"
        raise gpu.unusable(f"PyTorch {torch.__version__}", why, TorchRunner.toolchain)
    return torch.device("cuda")


def _tensors(model: TorchModel, feeds: Tensors) -> dict[str, Any]:
    torch, np = import_module("torch"), import_module("numpy")
    names = [port.name for port in model.inputs]
    if set(names) != set(feeds):
        raise InputError(
            f"the model takes {', '.join(map(repr, names))},"
            f" received {', '.join(map(repr, feeds)) or 'nothing'}",
            known=names,
        )
    return {name: torch.from_numpy(np.array(feeds[name], order="C")) for name in names}


def _to_numpy(outputs: Mapping[str, Any]) -> Tensors:
    torch = import_module("torch")
    made = {}
    for name, tensor in outputs.items():
        plain = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
        # numpy has no bfloat16
        plain = plain.float() if plain.dtype is torch.bfloat16 else plain
        made[name] = plain.cpu().resolve_conj().resolve_neg().contiguous().numpy().copy()
    return made


def _outputs_by_running(
    model: TorchModel, artifact: Artifact, facts: dict[str, Any]
) -> tuple[Port, ...]:
    """One forward on noise, where all inputs are pinned; why it failed is kept as a fact."""
    if artifact.signature is None or not all(port.fixed for port in model.inputs):
        return ()
    try:
        outputs = model.run({port.name: sample(port) for port in model.inputs})
    except InputError as error:
        facts["forward_error"] = error.message
        return ()
    return tuple(
        Port(name, tuple(tensor.shape), dtype_name(tensor.dtype))
        for name, tensor in outputs.items()
    )


def _class_name(model: TorchModel) -> str:
    if model.kind is Format.TORCH_EXPORT:
        return "torch.export.ExportedProgram"
    if model.kind is Format.TORCHSCRIPT:
        return str(model.module.original_name)
    kind = type(model.module)
    return f"{kind.__module__}.{kind.__qualname__}"


def _parameters(module: Any) -> int | None:
    """Weights by identity: tied ones count once, as `parameters()` has it."""
    return sum(int(parameter.numel()) for parameter in module.parameters())


def _ops(model: TorchModel) -> dict[str, int]:
    """Aten ops of a graph, leaf modules by class where there is none."""
    if model.kind is Format.TORCH_EXPORT:
        calls = [node for node in model.graph.nodes if node.op == "call_function"]
        names = [str(getattr(node.target, "overloadpacket", "")) for node in calls]
    elif model.kind is Format.TORCHSCRIPT:
        names = [kind for kind in _kinds(model.graph) if kind.startswith("aten::")]
    else:
        leaves = [m for m in model.module.modules() if not any(m.children())]
        names = [type(leaf).__name__ for leaf in leaves]
    return dict(Counter(filter(None, names)).most_common())


def _kinds(block: Any) -> list[str]:
    """Every node of a TorchScript graph, those in branches and loops too."""
    found: list[str] = []
    for node in block.nodes():
        found.append(str(node.kind()))
        for inner in node.blocks():
            found.extend(_kinds(inner))
    return found
