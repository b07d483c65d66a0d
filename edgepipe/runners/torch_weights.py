"""Weights into a module: state dicts, nested or not, and safetensors; every key must fit."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from edgepipe.errors import ModelNotFound, TrustRequired, UnsupportedModel

from .torch_errors import first_sentence

NESTS = ("state_dict", "model_state_dict", "model")
"""Where checkpoints keep the state dict: Lightning, PyTorch's tutorial, timm's scripts."""
SHOWN = 3
SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""https://github.com/huggingface/safetensors#format; torch's names for them."""


def load_weights(module: Any, path: Path, *, trust: bool) -> None:
    """Fill the module from a file, or say which keys or shapes don't fit."""
    state = read_state(path, trust=trust)
    wanted = module.state_dict()
    state = _without_prefix(state, wanted)
    _compare(state, wanted, path)
    module.load_state_dict(state, strict=False)


def read_state(path: Path, *, trust: bool) -> dict[str, Any]:
    """Names and tensors of a weights file."""
    if not path.is_file():
        raise ModelNotFound(f"no such weights file: {str(path)!r}")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return _state_of(_read_torch(path, trust=trust), path)


def _read_torch(path: Path, *, trust: bool) -> Any:
    torch = import_module("torch")
    try:
        return torch.load(str(path), map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust or "weights only" not in str(error).lower():
            raise _unreadable(path, error) from error
        raise TrustRequired(
            f"{path.name!r} holds more than tensors: {_refused(error)}; loading it runs code that"
            " the file itself brings",
            hint="--trust, if you trust where it comes from; or save only the tensors:"
            " torch.save(model.state_dict(), FILE).",
        ) from error
    except Exception as error:  # With trust, a pickle may raise anything.
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UnsupportedModel:
    return UnsupportedModel(
        f"{path.name!r} could not be read as weights:"
        f" {type(error).__name__}: {first_sentence(error)}",
        hint="expected what torch.save(model.state_dict(), FILE) writes, or a .safetensors file.",
    )


def _refused(error: Exception) -> str:
    """The name of the class that torch refused, out of its long message."""
    for line in str(error).splitlines():
        words = line.split()
        if "GLOBAL" in words:
            return words[words.index("GLOBAL") + 1]
    return "Python objects"


def _state_of(found: Any, path: Path) -> dict[str, Any]:
    torch = import_module("torch")
    for nest in NESTS:
        if isinstance(found, Mapping) and nest in found and not torch.is_tensor(found[nest]):
            found = found[nest]
    if isinstance(found, torch.nn.Module):
        found = found.state_dict()
    tensors = isinstance(found, Mapping) and all(map(torch.is_tensor, found.values()))
    if tensors and found:
        return dict(found)
    holds = f"keys {_some(map(str, found))}" if isinstance(found, Mapping) else type(found).__name__
    raise UnsupportedModel(
        f"{path.name!r} holds {holds}, expected names with tensors (a state dict)",
        hint=f"it may lie under {', '.join(map(repr, NESTS))}; save model.state_dict() otherwise.",
    )


def _without_prefix(state: dict[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what wrappers put before every name (`module.`, `model.`, `_orig_mod.`)."""
    while not set(state) & set(wanted):
        heads = {name.partition(".")[0] for name in state}
        if len(heads) != 1 or not all("." in name for name in state):
            return state
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}
    return state


def _compare(state: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    # Checkpoints from before PyTorch 0.4.1 have no num_batches_tracked, and eval doesn't read it.
    missing = [n for n in wanted if n not in state and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in state if n not in wanted]
    shapes = [
        f"{n} {tuple(state[n].shape)} for {tuple(wanted[n].shape)}"
        for n in wanted
        if n in state and state[n].shape != wanted[n].shape
    ]
    said = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
        )
        if names
    ]
    if said:
        raise UnsupportedModel(
            f"the weights in {path.name!r} don't fit the model: {'; '.join(said)}",
            hint="is it the same architecture, with the same --model-arg's?",
            missing=missing,
            unexpected=unexpected,
            shapes=shapes,
        )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = ", ..." if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def read_safetensors(path: Path) -> dict[str, Any]:
    """A length, a JSON header, bytes: no package needed, so that every toolchain reads it."""
    torch = import_module("torch")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise UnsupportedModel(f"{path.name!r} is no safetensors file, or is cut short")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise UnsupportedModel(f"{path.name!r} has a damaged safetensors header") from error
        start = 8 + length
        state: dict[str, Any] = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            file.seek(start + first)
            state[name] = _tensor(torch, bytearray(file.read(last - first)), name, entry, path)
    return state


def _tensor(torch: Any, data: bytearray, name: str, entry: dict[str, Any], path: Path) -> Any:
    first, last = entry["data_offsets"]
    if len(data) != last - first:
        raise UnsupportedModel(f"{path.name!r} is cut short: {name!r} lacks bytes")
    if entry["dtype"] not in SAFETENSORS_TYPES:
        raise UnsupportedModel(
            f"{path.name!r}: tensor {name!r} is of type {entry['dtype']!r}",
            hint=f"known types: {', '.join(SAFETENSORS_TYPES)}.",
        )
    dtype = getattr(torch, SAFETENSORS_TYPES[entry["dtype"]])
    if not data:
        return torch.empty(entry["shape"], dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(entry["shape"])
