"""PyTorch straight to TFLite, by litert-torch: no ONNX on the way, and hardly a transpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import BrokenOutput
from edgepipe.stage import Options, Product, Stage, option

from .torch_module import Axes, failed, positional, prepare, samples, without_script

NHWC: Axes = (0, 2, 3, 1)
IMAGE_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class LitertTorchOptions(Options):
    keep_layout: bool = option(False, "keep inputs and outputs of four dimensions as NCHW")


class TfliteFromTorch(Stage):
    """Inputs and outputs of four dimensions become NHWC, which is what edge devices feed."""

    name: ClassVar[str] = "tflite_from_torch"
    label: ClassVar[str] = "litert-torch"
    sources: ClassVar[tuple[Format, ...]] = (
        Format.TORCH_EXPORT,
        Format.TORCHSCRIPT,
        Format.TORCH_PICKLE,
        Format.TORCH_SOURCE,
    )
    target: ClassVar[Format] = Format.TFLITE
    toolchain: ClassVar[str] = "litert-torch"
    revision: ClassVar[int] = 1
    options: ClassVar[type[Options]] = LitertTorchOptions
    preload: ClassVar[tuple[str, ...]] = ("torch", "litert_torch")

    def run(self, artifact: Artifact, options: Any, workdir: Path) -> Product:
        model = prepare(artifact)
        feeds = samples(artifact)
        ports = artifact.ends().inputs
        inputs = {} if options.keep_layout else _image_inputs(ports)
        made = model.run(feeds)
        outputs = {n: NHWC for n, tensor in made.items() if inputs and _has_pixels(tensor)}
        module = positional(model, list(feeds), inputs, outputs)
        fed = {name: _laid_out(tensor, inputs.get(name)) for name, tensor in feeds.items()}
        path = workdir / "model.tflite"
        _convert(without_script(module, fed), tuple(fed.values()), path)
        found_inputs, found_outputs = _tensors(path)
        return Product(
            path,
            Signature(
                _ports(list(feeds), found_inputs, inputs, {port.name: port for port in ports}),
                _ports(list(made), found_outputs, outputs, {}),
            ),
        )


def _image_inputs(ports: tuple[Port, ...]) -> dict[str, Axes]:
    """Float inputs of four dimensions; one with three channels at its end is NHWC already."""
    return {
        port.name: NHWC
        for port in ports
        if port.shape is not None
        and len(port.shape) == 4
        and port.dtype.startswith("float")
        and not (port.shape[3] in IMAGE_CHANNELS and port.shape[1] not in IMAGE_CHANNELS)
    }


def _has_pixels(tensor: Any) -> bool:
    return tensor.ndim == 4 and bool(tensor.is_floating_point())


def _laid_out(tensor: Any, axes: Axes | None) -> Any:
    return tensor if axes is None else tensor.permute(axes).contiguous()


def _convert(module: Any, args: tuple[Any, ...], path: Path) -> None:
    litert_torch = import_module("litert_torch")
    try:
        litert_torch.convert(module, args).export(str(path))
    except Exception as error:  # jax, MLIR and torch.export raise what they like.
        raise failed("litert-torch", error) from error


def _tensors(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs as the signature numbers them: args_0, args_1; output_0, output_1."""
    interpreters = import_module("ai_edge_litert.interpreter")
    try:
        interpreter = interpreters.Interpreter(model_path=str(path))
        runner = interpreter.get_signature_runner()
    except (RuntimeError, ValueError) as error:
        raise BrokenOutput(f"litert-torch wrote a file that doesn't load: {error}") from error
    return _numbered(runner.get_input_details()), _numbered(runner.get_output_details())


def _numbered(details: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    keys = sorted(details, key=lambda key: int(key.rpartition("_")[2]))
    return [details[key] for key in keys]


def _ports(
    names: list[str],
    found: list[dict[str, Any]],
    permutations: Mapping[str, Axes],
    given: Mapping[str, Port],
) -> tuple[Port, ...]:
    """Ports of the file. litert-torch makes int32 of int64, which few runtimes have."""
    if len(names) != len(found):
        raise BrokenOutput(
            f"litert-torch wrote {len(found)} tensors for {len(names)}: {', '.join(names)}"
        )
    np = import_module("numpy")
    ports = []
    for name, tensor in zip(names, found, strict=True):
        port = Port(
            name,
            tuple(int(size) for size in tensor["shape"]),
            np.dtype(tensor["dtype"]).name,
            tensor=tensor["name"],
            permutation=permutations.get(name),
        )
        ports.append(replace(port, high=given[name].high) if name in given else port)
    return tuple(ports)
