"""PyTorch models from disk in eval mode: exported programs, TorchScript, pickles, user code."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from edgepipe.artifact import Artifact, Format
from edgepipe.errors import (
    InternalError,
    ModelNotFound,
    TrustRequired,
    UnsupportedModel,
    UserCodeError,
)

from .torch_errors import first_sentence
from .torch_factory import call_factory
from .torch_weights import load_weights
from .user_code import add_to_path, told


def load(artifact: Artifact) -> Any:
    """A `torch.export.ExportedProgram` for .pt2, an `nn.Module` in eval mode for all else."""
    add_to_path(artifact.loading.python_path)
    if artifact.format is not Format.TORCH_SOURCE and not artifact.path.exists():
        raise ModelNotFound(f"no such file: {str(artifact.path)!r}")
    if artifact.format is Format.TORCH_EXPORT:
        return _load_export(artifact)
    return _frozen(_load_module(artifact))


def _load_module(artifact: Artifact) -> Any:
    if artifact.format is Format.TORCHSCRIPT:
        return _load_script(artifact)
    if artifact.format is Format.TORCH_PICKLE:
        return _load_pickle(artifact)
    if artifact.format is Format.TORCH_SOURCE:
        return _load_source(artifact)
    raise InternalError(f"the torch runner was given a {artifact.format} file")


def _frozen(module: Any) -> Any:
    """Eval, on the CPU, no gradients."""
    parallel = import_module("torch").nn.DataParallel
    module = (module.module if isinstance(module, parallel) else module).eval().cpu()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def _load_export(artifact: Artifact) -> Any:
    torch = import_module("torch")
    try:
        with artifact.path.open("rb") as file:  # given a path, it insists on the suffix .pt2
            return torch.export.load(file)
    except (RuntimeError, ValueError, KeyError, zipfile.BadZipFile, AssertionError) as error:
        raise UnsupportedModel(
            f"torch {torch.__version__} can't read {artifact.path.name!r} as an exported program:"
            f" {first_sentence(error)}",
            hint="save it again with torch.export.save of the same torch version, or use a"
            " toolchain with the version that wrote it (EDGEPIPE_PYTHON_TORCH).",
        ) from error


def _load_script(artifact: Artifact) -> Any:
    """`factory` names a submodule, for files whose outer module is no function of tensors."""
    torch = import_module("torch")
    try:
        module = torch.jit.load(str(artifact.path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise UnsupportedModel(
            f"torch {torch.__version__} can't read {artifact.path.name!r} as TorchScript:"
            f" {first_sentence(error)}",
            hint="save it again with torch.jit.save, or as .pt2 with torch.export.save.",
        ) from error
    for part in filter(None, artifact.loading.factory.split(".")):
        parts = dict(module.named_children())
        if part not in parts:
            raise UnsupportedModel(
                f"{artifact.path.name!r} has no submodule {artifact.loading.factory!r}",
                hint=f"{part!r} is not among: {', '.join(parts) or 'none'}.",
            )
        module = parts[part]
    return module


def _load_pickle(artifact: Artifact) -> Any:
    if not artifact.loading.trust:
        raise TrustRequired(
            f"{artifact.path.name!r} is a pickled module: loading it runs code that the file"
            " itself brings",
            hint="--trust, if you trust where it comes from; or a .pt2 of torch.export.save, or"
            " --model package.module:factory with --weights, which need no trust.",
        )
    module = _unpickle(artifact.path, artifact.loading.python_path)
    torch = import_module("torch")
    if isinstance(module, torch.nn.Module):
        return module
    raise UnsupportedModel(
        f"{artifact.path.name!r} holds {type(module).__name__}, expected a pickled nn.Module",
        hint="weights need the code that they belong to: --model package.module:factory"
        f" --weights {artifact.path.name}.",
    )


def _unpickle(path: Path, python_path: Sequence[str]) -> Any:
    torch = import_module("torch")
    try:
        return torch.load(str(path), map_location="cpu", weights_only=False)
    except ModuleNotFoundError as error:
        raise UserCodeError(
            f"{path.name!r} was pickled with a class of module {error.name!r}, which can't be"
            " imported here",
            hint=f"--python-path DIR where {error.name!r} lies in DIR, or name a Python that has"
            " it: EDGEPIPE_PYTHON_TORCH=/path/to/python.",
            module=error.name,
        ) from error
    except AttributeError as error:
        raise UserCodeError(
            f"{path.name!r} names a class that its module doesn't have: {first_sentence(error)}",
            hint="a class defined in a script is pickled as `__main__` and lost with it: save a"
            " .pt2 with torch.export.save, or use --model package.module:factory --weights FILE.",
        ) from error
    except Exception as error:  # A pickle may call, and so raise, anything.
        raise told(error, f"{path.name!r} could not be unpickled", python_path) from error


def _load_source(artifact: Artifact) -> Any:
    loading = artifact.loading
    module = call_factory(loading)
    if loading.weights:
        load_weights(module, Path(loading.weights), trust=loading.trust)
    return module
