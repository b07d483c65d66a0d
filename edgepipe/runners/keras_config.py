"""What a Keras file says of itself, read without Keras: its config, and the code it would run."""

from __future__ import annotations

import builtins
import importlib
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepipe.artifact import Format
from edgepipe.errors import UnknownFormat, UnsupportedModel

FRAMEWORKS = ("keras", "tf_keras", "tensorflow", "keras_hub", "keras_cv", "keras_nlp", "builtins")
MARSHALLED = re.compile(r"4[w-z][A-Za-z0-9+/\s]{38,}={0,2}\s*")
"""Base64 of a marshalled code object: its first byte is 0xE3, TYPE_CODE with FLAG_REF."""
ACTING_PARTS = ("utils", "saving", "models", "config", "export", "preprocessing", "distribution")
"""Keras modules whose functions reach outside the graph (CVE-2025-8747: keras.utils.get_file)."""
ACTING_SYMBOLS = ("io.", "py_func", "numpy_function", "raw_ops.", "load_", "saved_model.", "keras.")
"""TensorFlow symbols that a Keras-2 TFOpLambda must not name without consent."""


@dataclass(frozen=True)
class Suspect:
    """A place in the config that leads to Python code; one that only names a class doesn't run."""

    layer: str
    reason: str
    runs: bool = True
    module: str = ""
    kind: str = ""


def read_config(path: Path, format: Format) -> dict[str, Any]:
    """The model's config as plain data."""
    text = _zip_config(path) if format is Format.KERAS else _h5_config(path)
    try:
        config = json.loads(text)
    except ValueError as error:
        raise UnknownFormat(f"{path}: its model config is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise UnknownFormat(f"{path}: expected a model config, received {str(config)[:60]!r}")
    return config


def _zip_config(path: Path) -> str | bytes:
    try:
        with zipfile.ZipFile(path) as file:
            return file.read("config.json")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UnknownFormat(
            f"{path} is no readable Keras file: {error}",
            hint="save it again with `model.save('model.keras')`.",
        ) from error


def _h5_config(path: Path) -> str | bytes:
    h5py = importlib.import_module("h5py")
    try:
        with h5py.File(path, "r") as file:
            config: str | bytes | None = file.attrs.get("model_config")
    except OSError as error:
        raise UnknownFormat(
            f"{path} is no readable HDF5 file: {error}",
            hint="save it again with `model.save('model.h5')`.",
        ) from error
    if config is None:
        raise UnsupportedModel(
            f"{path} holds weights only: it doesn't say which layers they belong to",
            hint="build the model in Python, `load_weights` this, then `model.save('m.keras')`.",
        )
    return config


def saved_parameters(path: Path) -> int:
    """Floating-point numbers among the weights of a `.keras` file, the optimizer's left out."""
    h5py = importlib.import_module("h5py")
    sizes: list[int] = []

    def count(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and "optimizer" not in name:
            sizes.append(int(item.size))

    with (
        zipfile.ZipFile(path) as file,
        file.open("model.weights.h5") as weights,
        h5py.File(weights, "r") as tree,
    ):
        tree.visititems(count)
    return sum(sizes)


def suspects(config: dict[str, Any]) -> list[Suspect]:
    """Every place that would run code, or names a class of no framework; not how it was trained."""
    read = {name: value for name, value in config.items() if name != "compile_config"}
    return list(_walk(read, "the model"))


def _walk(config: Any, layer: str) -> Iterator[Suspect]:
    if isinstance(config, str):
        if MARSHALLED.fullmatch(config):
            yield Suspect(layer, "carries Python byte code")
    elif isinstance(config, list):
        for item in config:
            yield from _walk(item, layer)
    elif isinstance(config, dict):
        kind = config.get("class_name")
        if isinstance(kind, str):
            layer = _layer_name(config, layer)
            yield from _suspect(kind, config, layer)
        for item in config.values():
            yield from _walk(item, layer)


def _layer_name(node: dict[str, Any], outer: str) -> str:
    inner = node.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    # A dtype policy has a name too; layers alone say whether they are trainable, or carry nodes.
    if isinstance(inner, dict) and name and ("trainable" in inner or "inbound_nodes" in node):
        return str(name)
    return outer


def _suspect(kind: str, node: dict[str, Any], layer: str) -> Iterator[Suspect]:
    if kind == "Lambda":
        yield Suspect(layer, "is a Lambda layer, whose body is Python code")
    elif kind == "__lambda__":
        yield Suspect(layer, "carries a Python lambda")
    elif kind in ("TFOpLambda", "SlicingOpLambda"):
        yield from _suspect_symbol(node, layer)
    else:
        yield from _suspect_module(kind, node, layer)


def _suspect_symbol(node: dict[str, Any], layer: str) -> Iterator[Suspect]:
    inner = node.get("config")
    symbol = str(inner.get("function", "")) if isinstance(inner, dict) else ""
    if symbol.removeprefix("compat.v1.").startswith(ACTING_SYMBOLS):
        yield Suspect(layer, f"calls tf.{symbol}, which reaches outside the model")


def _suspect_module(kind: str, node: dict[str, Any], layer: str) -> Iterator[Suspect]:
    module = node.get("module")
    if not isinstance(module, str):
        return
    root = module.partition(".")[0]
    name = str(node.get("config")) if kind == "function" else kind
    if root not in FRAMEWORKS:
        words = f"is of class {module}.{name}, which is neither Keras nor TensorFlow"
        yield Suspect(layer, words, runs=False, module=module, kind=name)
    elif kind == "function" and (set(module.split(".")) & set(ACTING_PARTS)):
        yield Suspect(layer, f"calls {module}.{name}, which reaches outside the model")
    elif root == "builtins" and hasattr(builtins, name) and name not in ("abs", "max", "min"):
        yield Suspect(layer, f"calls Python's {name!r}")
