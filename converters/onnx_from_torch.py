"""PyTorch to ONNX by torch's two exporters: that of `torch.export`, and the TorchScript one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import OptionError
from edgepipe.runners.torch_ends import TorchModel, dtype_name
from edgepipe.stage import Options, Product, Stage, option

from .torch_module import failed, holds_script, positional, prepare, samples, without_script

PROTOBUF_LIMIT = 2**31 - 2**24
"""A protobuf holds 2 GB; 16 MB are left for the graph."""


@dataclass(frozen=True)
class DynamoOptions(Options):
    opset: int = option(18, "opset of the ONNX file; the exporter has none below 18")


@dataclass(frozen=True)
class TorchScriptOptions(Options):
    # LayerNormalization is an op from opset 17 on, and onnx2tf makes a custom op of it.
    opset: int = option(16, "opset of the ONNX file, 9 to 20; below 17 layer norms are in parts")


class OnnxFromTorch(Stage):
    """What both exporters share: static shapes, names and order of inputs and outputs kept."""

    sources: ClassVar[tuple[Format, ...]] = (
        Format.TORCH_EXPORT,
        Format.TORCHSCRIPT,
        Format.TORCH_PICKLE,
        Format.TORCH_SOURCE,
    )
    target: ClassVar[Format] = Format.ONNX
    toolchain: ClassVar[str] = "torch"
    revision: ClassVar[int] = 1
    opsets: ClassVar[range]

    def check(self, artifact: Artifact, options: Any) -> None:
        if options.opset not in self.opsets:
            raise OptionError(
                f"{self.name}.opset takes {self.opsets[0]} to {self.opsets[-1]},"
                f" received {options.opset!r}"
            )

    def run(self, artifact: Artifact, options: Any, workdir: Path) -> Product:
        model = prepare(artifact)
        feeds = samples(artifact)
        outputs = model.run(feeds)
        path = workdir / "model.onnx"
        try:
            self.export(model, feeds, list(outputs), path, options.opset)
        except Exception as error:  # The exporters raise what they like.
            raise failed(f"torch's {self.label} exporter", error) from error
        inputs = artifact.ends().inputs
        _restore_inputs(path, inputs)
        ports = tuple(
            Port(name, tuple(tensor.shape), dtype_name(tensor.dtype))
            for name, tensor in outputs.items()
        )
        return Product(path, Signature(inputs, ports))

    @abstractmethod
    def export(
        self, model: TorchModel, feeds: dict[str, Any], outputs: list[str], path: Path, opset: int
    ) -> None:
        """Write the ONNX file."""


class OnnxFromTorchDynamo(OnnxFromTorch):
    name: ClassVar[str] = "onnx_from_torch.dynamo"
    label: ClassVar[str] = "dynamo"
    options: ClassVar[type[Options]] = DynamoOptions
    preload: ClassVar[tuple[str, ...]] = ("torch", "onnxscript")
    opsets: ClassVar[range] = range(18, 24)

    def export(
        self, model: TorchModel, feeds: dict[str, Any], outputs: list[str], path: Path, opset: int
    ) -> None:
        torch = import_module("torch")
        module = without_script(positional(model, list(feeds)), feeds)
        torch.onnx.export(
            module,
            tuple(feeds.values()),
            str(path),
            dynamo=True,
            verbose=False,
            input_names=list(feeds),
            output_names=outputs,
            opset_version=opset,
            external_data=_bytes(module) > PROTOBUF_LIMIT,
            optimize=True,
        )


class OnnxFromTorchScript(OnnxFromTorch):
    name: ClassVar[str] = "onnx_from_torch.torchscript"
    label: ClassVar[str] = "torchscript"
    options: ClassVar[type[Options]] = TorchScriptOptions
    preload: ClassVar[tuple[str, ...]] = ("torch",)
    opsets: ClassVar[range] = range(9, 21)

    def export(
        self, model: TorchModel, feeds: dict[str, Any], outputs: list[str], path: Path, opset: int
    ) -> None:
        torch = import_module("torch")
        module = positional(model, list(feeds))
        if model.kind is Format.TORCH_EXPORT:
            # An exported module refuses train() and eval(), which this exporter calls.
            module.wrapped = torch.fx.GraphModule(module.wrapped, module.wrapped.graph)
        if holds_script(module):
            # It loses sight of script below a module: "not part of the active trace".
            module = torch.jit.trace(module, tuple(feeds.values()), check_trace=False)
        torch.onnx.export(
            module,
            tuple(feeds.values()),
            str(path),
            dynamo=False,
            input_names=list(feeds),
            output_names=outputs,
            opset_version=opset,
            do_constant_folding=True,
        )


def _bytes(module: Any) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(int(tensor.numel()) * int(tensor.element_size()) for tensor in tensors)


def _restore_inputs(path: Path, inputs: tuple[Port, ...]) -> None:
    """Put back inputs that the model doesn't use: the TorchScript exporter drops them."""
    onnx = import_module("onnx")
    proto = onnx.load(str(path), load_external_data=False)
    kept = {value.name: value for value in proto.graph.input}
    if list(kept) == [port.name for port in inputs]:
        return
    values = [kept.get(port.name) or _value_info(port) for port in inputs]
    del proto.graph.input[:]
    proto.graph.input.extend(values)
    onnx.save(proto, str(path))


def _value_info(port: Port) -> Any:
    onnx = import_module("onnx")
    kind = onnx.TensorProto.DataType.Value(
        {"float32": "FLOAT", "float64": "DOUBLE"}.get(port.dtype, port.dtype.upper())
    )
    return onnx.helper.make_tensor_value_info(port.name, kind, port.shape)
