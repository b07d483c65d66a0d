"""What a Keras config says of the code that it would run, told without Keras."""

from __future__ import annotations

import base64
import json
import marshal
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgepipe.artifact import Format
from edgepipe.errors import UnknownFormat
from edgepipe.runners.keras_config import Suspect, read_config, suspects
from edgepipe.runners.keras_model import leaves, unique


def model_of(*layers: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return {"class_name": "Functional", "config": {"name": "net", "layers": list(layers)}, **beside}


def layer(kind: str, name: str, module: str | None = "keras.layers", **config: Any) -> Any:
    inner = {"name": name, "trainable": True, **config}
    return {"module": module, "class_name": kind, "config": inner}


def byte_code() -> str:
    code = compile("lambda x: x + 1", "model.py", "eval")
    return base64.encodebytes(marshal.dumps(code)).decode()


def running(config: dict[str, Any]) -> set[str]:
    return {one.layer for one in suspects(config) if one.runs}


def test_plain_layers_are_not_suspected() -> None:
    config = model_of(
        layer("Dense", "head", units=3, activation="relu", kernel_initializer="4wayInit"),
        layer(
            "Dense",
            "gelu",
            activation={"class_name": "function", "module": "builtins", "config": "gelu"},
        ),
    )
    assert suspects(config) == []


@pytest.mark.parametrize(
    "suspicious",
    [
        layer("Lambda", "culprit", function=["x", None, None]),
        layer("Dense", "culprit", activation={"class_name": "__lambda__", "config": {}}),
        layer("Dense", "culprit", activation={"value": [byte_code(), None, None]}),
        layer("TFOpLambda", "culprit", function="io.write_file"),
        layer("TFOpLambda", "culprit", function="compat.v1.py_func"),
        layer(
            "Activation",
            "culprit",
            activation={"class_name": "function", "module": "keras.utils", "config": "get_file"},
        ),
        layer(
            "Activation",
            "culprit",
            activation={"class_name": "function", "module": "builtins", "config": "eval"},
        ),
    ],
)
def test_names_the_layer_that_runs_code(suspicious: dict[str, Any]) -> None:
    assert running(model_of(layer("Dense", "before"), suspicious)) == {"culprit"}


def test_finds_code_in_a_model_within_the_model() -> None:
    inner = layer("Sequential", "inner", layers=[layer("Lambda", "deep")])
    assert running(model_of(inner)) == {"deep"}


def test_a_tensor_operation_of_keras_2_is_no_code() -> None:
    assert suspects(model_of(layer("TFOpLambda", "add", function="math.add"))) == []


def test_how_the_model_was_trained_is_not_looked_at() -> None:
    assert suspects(model_of(compile_config={"loss": {"class_name": "__lambda__"}})) == []


def test_a_class_of_another_module_is_named_but_runs_nothing_by_itself() -> None:
    found = suspects(model_of(layer("system", "culprit", module="os")))
    assert [(one.layer, one.module, one.kind, one.runs) for one in found] == [
        ("culprit", "os", "system", False)
    ]
    assert isinstance(found[0], Suspect)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and nothing more", b"no archive at all"])
def test_a_damaged_archive_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(UnknownFormat, match=r"model\.keras is no readable Keras file"):
        read_config(path, Format.KERAS)


def test_a_config_that_is_no_json_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{")
    with pytest.raises(UnknownFormat, match="no JSON"):
        read_config(path, Format.KERAS)


def test_reads_the_config(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(model_of()))
    assert read_config(path, Format.KERAS) == model_of()


def test_names_that_collide_get_the_lowest_free_number() -> None:
    assert unique(["x", "y", "x", "x", "x_1"]) == ["x", "y", "x_2", "x_3", "x_1"]


def test_nested_results_are_flattened_by_sorted_key_with_their_paths() -> None:
    found = list(leaves({"q": [1, 2], "p": {"b": 3}, "none": None}))
    assert found == [("p.b", 3), ("q.0", 1), ("q.1", 2)]
