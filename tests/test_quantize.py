"""From float TFLite to integers: schemes, ends, what is refused, and what the report says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepipe
from edgepipe.artifact import Format
from edgepipe.errors import BelowLimit, NoRouteLeft, OptionError, UnknownName, UnsupportedModel
from edgepipe.identify import identify
from edgepipe.tflite import reader
from edgepipe.tflite.flatbuffer import Reader
from edgepipe.tflite.record import decode

pytestmark = pytest.mark.toolchain("keras", "edge")

Build = Callable[[str, str], Path]
CONVERT = """
import numpy as np, tensorflow as tf, keras
from keras import layers as L
keras.utils.set_random_seed(1)
def save(name, model):
    open(name, "wb").write(tf.lite.TFLiteConverter.from_keras_model(model).convert())
x = keras.Input(batch_shape=(1, 8, 8, 3), name="x")
y = L.Conv2D(8, 3, padding="same", activation="relu")(x)
y = L.MaxPooling2D()(y)
y = L.Conv2D(8, 3, activation="relu")(y)
y = L.Dense(5)(L.GlobalAveragePooling2D()(y))
save("cnn.tflite", keras.Model(x, y))
x = keras.Input(batch_shape=(1, 16), name="x")
save("sine.tflite", keras.Model(x, L.Dense(4)(keras.ops.sin(L.Dense(8)(x)))))
x = keras.Input(batch_shape=(1, 8, 8, 3), name="x")
y = keras.ops.square(L.Conv2D(4, 3)(x))
save("square.tflite", keras.Model(x, y))
import keras.ops as K
for name, form in {
    "exp": lambda y: K.exp(y * 0.3), "elu": L.Activation("elu"), "flip": lambda y: K.flip(y, 1),
    "cast": lambda y: K.cast(K.not_equal(y, y * 0.5 + 1), "float32") * y,
    "norm": L.LayerNormalization(),
    "tile": lambda y: K.tile(y, (1, 2)), "log": lambda y: K.log(K.relu(y) + 1.5),
}.items():
    x = keras.Input(batch_shape=(1, 16), name="x")
    save(name + ".tflite", keras.Model(x, L.Dense(4)(form(L.Dense(8)(x)))))
x = keras.Input(batch_shape=(1, 16), name="x")
class Argmax(L.Layer):
    def call(self, y):
        return tf.argmax(y, -1, output_type=tf.int32)
save("argmax.tflite", keras.Model(x, Argmax()(L.Dense(8)(x))))
x = keras.Input(batch_shape=(1, 4), name="x")
d = L.Dense(8, kernel_initializer="ones", use_bias=False)(x)
save("lost.tflite", keras.Model(x, d * np.float32([1e4, 1, 1, 1, 1, 1, 1, 1])))
x = keras.Input(batch_shape=(1, 512), name="x")
save("wide.tflite", keras.Model(x, L.Dense(512)(x)))
"""


@pytest.fixture(scope="module")
def models(build: Build) -> Path:
    return build("keras", CONVERT)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "images.npz"
    random = np.random.default_rng(0)
    np.savez(path, x=random.normal(size=(60, 8, 8, 3)).astype(np.float32))
    return path


def steps_of(result: edgepipe.Result) -> list[dict[str, Any]]:
    chosen = next(item for item in result.report["routes"] if item["status"] == "chosen")
    found: list[dict[str, Any]] = chosen["steps"]
    return found


@pytest.mark.parametrize(
    ("precision", "io", "ends", "least_db"),
    [
        ("int8", "", "int8", 25),
        ("int8", "uint8", "uint8", 25),
        ("int8", "float32", "float32", 25),
        ("int16x8", "", "int16", 40),
        ("int16x8", "float32", "float32", 40),
        ("dynamic", "", "float32", 30),
        ("float16", "", "float32", 50),
    ],
)
def test_each_scheme_gives_what_was_asked_for(
    models: Path, images: Path, tmp_path: Path, precision: str, io: str, ends: str, least_db: float
) -> None:
    result = edgepipe.convert(
        models / "cnn.tflite", precision=precision, io=io, calibration=images, out=tmp_path
    )
    assert result.model.name == f"model_{precision}.tflite"
    assert identify(result.model) is Format.TFLITE_QUANTIZED
    main = reader.read(result.model).main
    assert {main.tensors[index].dtype for index in (*main.inputs, *main.outputs)} == {ends}
    assert result.sqnr_db is not None and result.sqnr_db > least_db
    kinds = {main.tensors[i].dtype for op in main.operators for i in op.inputs if i >= 0}
    assert {"int8": "int8", "int16x8": "int16", "dynamic": "int8", "float16": "float16"}[
        precision
    ] in kinds


def test_the_proof_is_made_on_samples_that_nothing_was_learnt_from(
    models: Path, images: Path, tmp_path: Path
) -> None:
    result = edgepipe.convert(
        models / "cnn.tflite", precision="int8", calibration=images, out=tmp_path
    )
    [step] = steps_of(result)
    assert step["proof"]["quantized"]
    assert step["proof"]["samples"] == 12
    assert [note for note in step["notes"] if note.startswith("calibrated on 48 samples (")]
    [output] = step["proof"]["outputs"]
    assert output["cosine"] > 0.99 and output["argmax_agreement"] > 0.8


def test_accuracy_is_counted_on_the_same_labelled_samples(models: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(100) % 5
    np.savez(
        tmp_path / "data.npz",
        x=random.normal(size=(100, 8, 8, 3)).astype(np.float32),
        labels=labels,
    )
    result = edgepipe.convert(
        models / "cnn.tflite",
        precision="int8",
        calibration=tmp_path / "data.npz",
        out=tmp_path / "out",
    )
    accuracy = steps_of(result)[0]["proof"]["accuracy"]
    assert accuracy["samples"] == 20
    assert abs(accuracy["float"] - accuracy["quantized"]) <= 0.2
    apart = accuracy["only_float_right"] - accuracy["only_quantized_right"]
    assert apart == round((accuracy["float"] - accuracy["quantized"]) * 20)


def test_int8_without_samples_is_refused_before_any_work(models: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="needs samples") as caught:
        edgepipe.convert(models / "cnn.tflite", precision="int8", out=tmp_path / "out")
    assert "--calibration random" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_random_calibration_is_marked(models: Path, tmp_path: Path) -> None:
    result = edgepipe.convert(
        models / "cnn.tflite", precision="int8", calibration="random", out=tmp_path
    )
    assert any("random" in text for text in result.report["warnings"])
    assert any("random" in note for note in steps_of(result)[0]["notes"])
    assert "random" in (tmp_path / "recipe.toml").read_text()


def test_an_operator_left_in_float_is_refused_unless_allowed(models: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"precision": "int8", "calibration": "random", "out": tmp_path}
    with pytest.raises(NoRouteLeft, match=r"int8 was asked for, and 1 operators.*SIN"):
        edgepipe.convert(models / "sine.tflite", **arguments)
    result = edgepipe.convert(models / "sine.tflite", **arguments, allow_float=True)
    assert any("SIN (1)" in note for note in steps_of(result)[0]["notes"])


def test_what_the_quantizer_lacks_is_said_otherwise_first(
    models: Path, images: Path, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"precision": "int8", "calibration": images}
    raw = {"tflite_quantize": {"rewrite": False}}
    with pytest.raises(NoRouteLeft, match="SQUARE"):
        edgepipe.convert(models / "square.tflite", **arguments, options=raw, out=tmp_path / "raw")
    result = edgepipe.convert(models / "square.tflite", **arguments, out=tmp_path / "made")
    assert any(note.startswith("integer_forms") for note in steps_of(result)[0]["notes"])
    assert sorted(item.name for item in result.folder.iterdir()) == [
        "manifest.json", "model_float32.tflite", "model_int8.tflite", "recipe.toml",
        "report.html", "report.json",
    ]  # fmt: skip


@pytest.mark.parametrize("precision", ["int8", "dynamic", "float16"])
def test_weights_lie_inside_the_flatbuffer(models: Path, tmp_path: Path, precision: str) -> None:
    """TensorFlow Lite Micro and tools of 2021 take weights behind it for absent."""
    data: dict[str, Any] = {"calibration": "random"} if precision == "int8" else {}
    result = edgepipe.convert(models / "wide.tflite", precision=precision, out=tmp_path, **data)
    content = Reader(result.model.read_bytes())
    buffers = decode(content, content.follow(0), "Model").buffers
    assert max(len(one.data) for one in buffers if one.data is not None) >= 512 * 512
    assert all(one.offset <= 1 for one in buffers)


def test_a_squared_difference_has_an_int16_form(models: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(80, 16)).astype(np.float32))
    result = edgepipe.convert(
        models / "norm.tflite",
        precision="int16x8",
        calibration=tmp_path / "x.npy",
        min_sqnr=15,  # RSQRT is a table in int16, too coarse for variances near zero.
        out=tmp_path / "out",
    )
    assert "SQUARED_DIFFERENCE" in reader.read(result.folder / "model_float32.tflite").ops()
    assert "SQUARED_DIFFERENCE" not in reader.read(result.model).ops()


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("exp", "EXP"),
        ("elu", "ELU"),
        ("cast", "CAST"),
        ("flip", "REVERSE_V2"),
        ("tile", "TILE"),
        ("log", "LOG"),
        ("argmax", "ARG_MAX"),
    ],
)
def test_operators_with_int8_kernels_are_integers(
    models: Path, tmp_path: Path, name: str, operator: str
) -> None:
    """The quantizer leaves each of these in float."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(80, 16)).astype(np.float32))
    result = edgepipe.convert(
        models / f"{name}.tflite",
        precision="int8",
        calibration=tmp_path / "x.npy",
        out=tmp_path / "out",
    )
    main = reader.read(result.model).main
    [kinds] = {
        (main.tensors[op.inputs[0]].dtype, main.tensors[op.outputs[0]].dtype)
        for op in main.operators
        if op.name == operator
    }
    assert "int8" in kinds and "float32" not in kinds
    assert "DEQUANTIZE" not in result.report["routes"][0]["steps"][-1]["summary"]["by_type"]


def test_a_result_below_the_limit_is_not_delivered(
    models: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(BelowLimit, match="dB, expected at least 60 dB") as caught:
        edgepipe.convert(
            models / "cnn.tflite", precision="int8", calibration=images, min_sqnr=60, out=tmp_path
        )
    assert caught.value.exit_code == 5
    assert sorted(item.name for item in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_one_scale_over_unlike_values_is_told(models: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=random.normal(size=(40, 4)).astype(np.float32))
    result = edgepipe.convert(
        models / "lost.tflite",
        precision="int8",
        calibration=tmp_path / "x.npz",
        out=tmp_path / "out",
    )
    notes = steps_of(result)[0]["proof"]["notes"]
    assert any("one scale for unlike values: index 1 of axis 1" in note for note in notes)


def test_a_recipe_applies_again_and_gives_the_same_bytes(
    models: Path, images: Path, tmp_path: Path, fresh_store: Path
) -> None:
    first = edgepipe.convert(
        models / "cnn.tflite",
        precision="int8",
        calibration=images,
        calibration_method="mse",
        io="float32",
        out=tmp_path / "first",
    )
    again = edgepipe.convert(
        models / "cnn.tflite",
        recipe=tmp_path / "first" / "recipe.toml",
        calibration=images,
        out=tmp_path / "again",
    )
    assert again.model.name == "model_int8.tflite"
    assert again.model.read_bytes() == first.model.read_bytes()
    assert "(mse)" in json.dumps(steps_of(again)[0]["notes"])


def test_a_recipe_with_an_unknown_name_is_refused(models: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[tflite_quantize]\nscheme = "int8"\nmethd = "mse"\n')
    with pytest.raises(UnknownName, match="methd"):
        edgepipe.convert(models / "cnn.tflite", recipe=recipe, calibration="random", out=tmp_path)
    recipe.write_text('[tflite_quantize]\nscheme = "int16x8"\n')
    with pytest.raises(OptionError, match="int16x8"):
        edgepipe.convert(
            models / "cnn.tflite", recipe=recipe, precision="int8", calibration="random"
        )


def test_ends_that_a_scheme_lacks_are_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises((OptionError, NoRouteLeft), match="no int16 ends"):
        edgepipe.convert(
            models / "cnn.tflite", precision="int8", io="int16", calibration="random", out=tmp_path
        )


def test_a_quantized_model_is_no_starting_point(models: Path, images: Path, tmp_path: Path) -> None:
    made = edgepipe.convert(
        models / "cnn.tflite", precision="int8", calibration=images, out=tmp_path
    )
    with pytest.raises(UnsupportedModel, match="is quantized"):
        edgepipe.convert(made.model, precision="int8", calibration=images, out=tmp_path / "again")
