"""Loads a Keras file: Keras 3 first, then tf_keras; nothing of the file's own code runs unasked."""

from __future__ import annotations

import importlib
import inspect
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepipe.artifact import Artifact, Format, Loading
from edgepipe.errors import EdgepipeError, TrustRequired, UnsupportedModel
from edgepipe.runners.keras_config import FRAMEWORKS, Suspect, read_config, suspects
from edgepipe.runners.user_code import import_user_module, raised_by_user, told

log = logging.getLogger(__name__)

SUFFIXES = {Format.KERAS: (".keras",), Format.KERAS_H5: (".h5", ".hdf5")}
UNKNOWN = re.compile(r"(?:Could not locate (?:class|function)|Unknown [\w ]+:) '?([\w>.]+)'?")
"""What Keras 3 and tf_keras say of a name that they can't resolve, by both of their formats."""


@dataclass(frozen=True)
class Loaded:
    """A Keras model and the generation of Keras that it belongs to: '3' or '2'."""

    model: Any
    generation: str


def framework(name: str) -> Any:
    """A module of TensorFlow or Keras, imported under the settings that they need."""
    importlib.import_module("edgepipe.runners.keras_environment")
    return importlib.import_module(name)


def tensorflow() -> Any:
    return framework("tensorflow")


def load_keras(artifact: Artifact) -> Loaded:
    """Load a `.keras` or `.h5` model, refusing what would run code without consent."""
    config = read_config(artifact.path, artifact.format)
    loading = artifact.loading
    if loading.custom_objects and not loading.trust:
        raise TrustRequired(
            f"--custom-objects {loading.custom_objects} runs Python code of yours",
            hint="add --trust if you trust it.",
        )
    if not loading.trust:
        _refuse_code(artifact.path, suspects(config))
    objects = custom_objects(loading)
    with _named_for_keras(artifact) as path:
        return _load(path, artifact, objects)


def _refuse_code(path: Path, found: list[Suspect]) -> None:
    reasons: dict[str, str] = {}
    for suspect in found:
        if suspect.runs:
            reasons.setdefault(suspect.layer, suspect.reason)
    if reasons:
        listed = "; ".join(f"layer {layer!r} {reason}" for layer, reason in reasons.items())
        raise TrustRequired(
            f"loading {path} would run code: {listed}",
            hint="add --trust if you know where this file comes from.",
            layers=list(reasons),
        )
    if found:
        raise _unknown_layer(path, found[0].kind, found[0].layer, found[0].module)


def _unknown_layer(path: Path, kind: str, layer: str = "", module: str = "") -> UnsupportedModel:
    where = f" (layer {layer!r})" if layer else ""
    return UnsupportedModel(
        f"{path} uses {kind!r}{where}, which neither Keras 3 nor tf_keras knows",
        hint="name the module that defines it:"
        f" --custom-objects {module or 'package.module'} --trust",
        unknown=kind,
    )


def custom_objects(loading: Loading) -> dict[str, Any]:
    """The classes and functions of the user's modules, and what they registered with Keras."""
    framework("keras")
    found: dict[str, Any] = {}
    for name in filter(None, (part.strip() for part in loading.custom_objects.split(","))):
        found.update(_defined_in(import_user_module(name, loading.python_path)))
    if found:
        saving = framework("keras").saving
        found.update(saving.get_custom_objects())
    return found


def _defined_in(module: ModuleType) -> Mapping[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.partition(".")[0] not in FRAMEWORKS
    }


@contextmanager
def _named_for_keras(artifact: Artifact) -> Iterator[Path]:
    """The file under a name with the suffix by which Keras tells the formats apart."""
    suffixes = SUFFIXES[artifact.format]
    if artifact.path.name.endswith(suffixes):
        yield artifact.path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"model{suffixes[0]}"
        link.symlink_to(artifact.path.resolve())
        yield link


def _load(path: Path, artifact: Artifact, objects: dict[str, Any]) -> Loaded:
    errors: dict[str, Exception] = {}
    for generation, package in (("3", "keras"), ("2", "tf_keras")):
        try:
            # Names are counted up in a process; without this they differ from one load to the next.
            framework(package).backend.clear_session()
            model = framework(package).saving.load_model(
                path, custom_objects=objects, compile=False, safe_mode=not artifact.loading.trust
            )
        except Exception as error:
            log.info("%s can't load %s: %s", package, artifact.path, error)
            errors[generation] = error
        else:
            return Loaded(model, generation)
    raise _neither(artifact, errors["3"], errors["2"]) from errors["3"]


def _neither(artifact: Artifact, third: Exception, second: Exception) -> EdgepipeError:
    """Why no Keras loads the file: the user's code, an unknown layer, or both stories."""
    for error in (third, second):
        if raised_by_user(error, artifact.loading.python_path):
            return told(error, f"loading {artifact.path} failed", artifact.loading.python_path)
    for error in (third, second):
        named = UNKNOWN.search(str(error))
        if named and named[1].rpartition(">")[2] not in _layers_known():
            return _unknown_layer(artifact.path, named[1].rpartition(">")[2])
    return UnsupportedModel(
        f"neither Keras 3 nor tf_keras loads {artifact.path}."
        f" Keras 3: {_short(third)} tf_keras: {_short(second)}",
        hint="load it in the environment that made it and save it again: `.keras` or SavedModel.",
        keras=str(third)[:2000],
        tf_keras=str(second)[:2000],
    )


def _layers_known() -> set[str]:
    names: set[str] = set()
    for package in ("keras", "tf_keras"):
        names |= set(dir(framework(package).layers))
    return names


def _short(error: Exception) -> str:
    """The error's own first line, without the model's whole config that Keras puts behind it."""
    text = str(error)
    cause = text.rpartition("Exception encountered:")[2].strip() or text.strip()
    line = cause.partition("\n")[0].partition("Full object config:")[0].strip()
    return f"{type(error).__name__}: {line[:300]}{'' if line.endswith('.') else '.'}"
