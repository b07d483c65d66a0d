"""Keras 3 and Keras 2 models: loaded, described, run, and converted to ONNX and TFLite."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepipe.artifact import Artifact
from edgepipe.errors import (
    InputError,
    OptionError,
    TrustRequired,
    UnsupportedModel,
    UserCodeError,
)
from edgepipe.runner import Description

pytestmark = pytest.mark.toolchain("keras", "edge")

Build = Callable[[str, str], Path]
MakeArtifact = Callable[..., Artifact]
RunStage = Callable[..., Artifact]
Describe = Callable[[Artifact], Description]
Tensors = dict[str, NDArray[Any]]
Infer = Callable[[Artifact, Tensors], Tensors]

STAGES = ("onnx_from_keras", "tflite_from_keras")

LAYERS = """
import keras

@keras.saving.register_keras_serializable("pkg")
class Scale(keras.layers.Layer):
    def __init__(self, factor=2.0, **kw):
        super().__init__(**kw)
        self.factor = factor
    def call(self, x):
        return x * self.factor
    def get_config(self):
        return {**super().get_config(), "factor": self.factor}

class Raises(keras.layers.Layer):
    def call(self, x):
        if x.shape[0] is not None:
            raise RuntimeError("the user's own mistake")
        return x

@keras.saving.register_keras_serializable("pkg")
class Net(keras.Model):
    def __init__(self, **kw):
        super().__init__(**kw)
        self.dense = keras.layers.Dense(4)
    def call(self, x, training=False):
        return {"z": self.dense(x), "a": self.dense(x) * 2}
    def get_config(self):
        return {}

@keras.saving.register_keras_serializable("pkg")
class Unbuildable(keras.Model):
    def __init__(self, **kw):
        super().__init__(**kw)
        self.dense = keras.layers.Dense(4)
    def call(self, x, y):
        return self.dense(x) + y
    def get_config(self):
        return {}
"""

MODELS = f"""
import os, pathlib, sys
os.environ["KERAS_BACKEND"] = "tensorflow"
pathlib.Path("mylayers.py").write_text({LAYERS!r})
pathlib.Path("broken.py").write_text("def start():\\n    raise KeyError('at import')\\nstart()\\n")
sys.path.insert(0, ".")
import keras, numpy, mylayers
from keras import Input, Model, Sequential, layers as L
keras.utils.set_random_seed(1)

def save(name, model, formats=("keras",)):
    random = numpy.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    for suffix in formats:
        model.save(f"{{name}}.{{suffix}}")

save("cnn", Sequential([
    Input((16, 16, 3)), L.Conv2D(4, 3, strides=2, padding="same"), L.BatchNormalization(),
    L.ReLU(max_value=6), L.DepthwiseConv2D(3, padding="same"), L.Dropout(0.5),
    L.GaussianNoise(1.0), L.Flatten(), L.Dense(10, activation="softmax"),
]), ("keras", "h5"))
zb, aa = Input((8,), name="zb"), Input((3,), name="aa")
y, b = L.Dense(5, name="y_out")(zb), L.Dense(5, name="b_out")(aa)
save("two", Model([zb, aa], [y, b]), ("keras", "h5"))
save("named", Model({{"zb": zb, "aa": aa}}, {{"q": y, "p": b}}))
same = L.Dense(8, name="same")
save("collide", Model(zb, [same(zb), same(same(zb)), zb]))
ids = Input((12,), name="ids", dtype="int32")
save("embedding", Model(ids, L.Dense(2)(L.GlobalAveragePooling1D()(L.Embedding(50, 4)(ids)))))
seq = Input((10, 6), name="seq")
save("recurrent", Model(seq, [
    L.GRU(8)(seq), L.LSTM(8, return_sequences=True)(seq), L.Bidirectional(L.LSTM(4))(seq)]))
img = Input((16, 16, 8), name="img")
save("grouped", Model(img, L.Conv2D(8, 3, groups=8)(L.Activation("gelu")(L.Conv2D(8, 3)(img)))))
x = img
for _ in range(2):
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    gate = L.Activation("hard_sigmoid")(L.Conv2D(8, 1)(gate))
    x = L.Conv2D(8, 1)(L.Activation("hard_swish")(L.Multiply()([x, gate])))
save("gated", Model(img, x))
free = Input((None, None, 3), name="free")
save("free", Model(free, L.Conv2D(2, 3)(free)))
save("lambda", Model(zb, L.Lambda(lambda t: t * 3)(zb)), ("keras", "h5"))
save("custom", Model(zb, mylayers.Scale()(zb)), ("keras", "h5"))
save("untrusted", Model(zb, mylayers.Scale(3.0)(zb)))
save("raising", Model(zb, mylayers.Raises()(zb)))
for kind, args in ((mylayers.Net, 1), (mylayers.Unbuildable, 2)):
    net = kind()
    net(*[numpy.zeros((2, 4), "float32")] * args)
    net.save(f"{{kind.__name__.lower()}}.keras")
"""

KERAS_2 = """
import tf_keras
from tf_keras import layers as L
tf_keras.utils.set_random_seed(1)
image, aux = tf_keras.Input((16, 16, 3), name="image"), tf_keras.Input((5,), name="aux")
x = L.BatchNormalization()(L.Conv2D(4, 3, padding="same", use_bias=False)(image))
x = L.LeakyReLU(0.1)(x) * 2.0 + 1
x = L.GlobalAveragePooling2D()(x)
y = L.Dense(3, name="zz")(L.Concatenate()([x, aux]))
model = tf_keras.Model([image, aux], [y, L.Dense(2, activation="softmax", name="aa")(x)])
model.save("two.h5")
model.save("two.keras")
model.save("no_suffix", save_format="h5")
model.save_weights("weights.h5")
model = tf_keras.Sequential(
    [L.Embedding(30, 4, input_length=7), L.LSTM(6, return_sequences=True), L.GRU(5)])
model.save("recurrent.h5")

import h5py
with h5py.File("no_suffix", "r") as old, h5py.File("neither.h5", "w") as new:
    for name in old:
        old.copy(name, new)
    new.attrs["model_config"] = old.attrs["model_config"].replace('"filters": 4', '"filters": {}')

import json, zipfile
def layer(module, kind):
    return {"module": module, "class_name": kind, "registered_name": None, "inbound_nodes": [],
            "config": {"name": "culprit", "trainable": True}}
config = {"module": "keras", "class_name": "Sequential", "registered_name": None,
          "config": {"name": "net", "layers": [layer("antigravity", "fly")]}}
with zipfile.ZipFile("foreign.keras", "w") as file:
    file.writestr("config.json", json.dumps(config))
    file.writestr("metadata.json", "{}")
    file.writestr("model.weights.h5", "")
"""


@pytest.fixture(scope="session")
def models(build: Build) -> Path:
    return build("keras", MODELS)


@pytest.fixture(scope="session")
def keras_2(build: Build) -> Path:
    return build("keras", KERAS_2)


def user_code(folder: Path, **more: Any) -> dict[str, Any]:
    return {"custom_objects": "mylayers", "python_path": (str(folder),), "trust": True, **more}


def feeds_for(artifact: Artifact) -> Tensors:
    random = np.random.default_rng(0)
    feeds: Tensors = {}
    for port in artifact.ends().inputs:
        shape = tuple(size or 1 for size in port.shape or ())
        if port.high is not None:
            feeds[port.name] = random.integers(0, port.high, shape).astype(port.dtype)
        else:
            feeds[port.name] = random.standard_normal(shape).astype(port.dtype)
    return feeds


def assert_same(made: Tensors, expected: Tensors) -> None:
    assert list(made) == list(expected)
    for name, want in expected.items():
        assert made[name].shape == want.shape, name
        assert made[name].dtype == want.dtype, name
        assert np.abs(want).max() > 0, f"{name} says nothing"
        np.testing.assert_allclose(made[name], want, rtol=1e-4, atol=1e-5, err_msg=name)


def names(ports: tuple[Any, ...]) -> list[str]:
    return [port.name for port in ports]


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_describes_names_in_model_order_and_an_open_batch(
    models: Path, artifact: MakeArtifact, describe: Describe, suffix: str
) -> None:
    described = describe(artifact(models / f"two.{suffix}"))
    signature = described.signature
    assert [(port.name, port.shape) for port in signature.inputs] == [
        ("zb", (None, 8)),
        ("aa", (None, 3)),
    ]
    assert names(signature.outputs) == ["y_out", "b_out"]
    assert described.parameters == 8 * 5 + 5 + 3 * 5 + 5
    assert described.ops == {"InputLayer": 2, "Dense": 2}
    assert described.facts["keras"] == "3"


def test_a_model_of_dicts_takes_its_names_from_the_keys(
    models: Path, artifact: MakeArtifact
) -> None:
    ends = artifact(models / "named.keras").ends()
    assert (names(ends.inputs), names(ends.outputs)) == (["aa", "zb"], ["p", "q"])


def test_outputs_that_share_a_name_are_told_apart(models: Path, artifact: MakeArtifact) -> None:
    ends = artifact(models / "collide.keras").ends()
    assert names(ends.outputs) == ["same", "same_1", "zb_1"]


def test_indices_into_a_table_are_bounded_by_its_rows(
    models: Path, keras_2: Path, artifact: MakeArtifact
) -> None:
    (ids,) = artifact(models / "embedding.keras").ends().inputs
    assert (ids.dtype, ids.high) == ("int32", 50)
    (old,) = artifact(keras_2 / "recurrent.h5").ends().inputs
    assert (old.dtype, old.high) == ("float32", 30)


@pytest.mark.parametrize("name", ["two.h5", "two.keras", "no_suffix"])
def test_keras_2_files_that_keras_3_refuses_are_read(
    keras_2: Path, artifact: MakeArtifact, describe: Describe, name: str
) -> None:
    described = describe(artifact(keras_2 / name))
    assert described.facts["keras"] == "2"
    assert names(described.signature.inputs) == ["image", "aux"]
    assert names(described.signature.outputs) == ["zz", "aa"]


def test_inference_is_without_dropout_and_noise(
    models: Path, artifact: MakeArtifact, infer: Infer
) -> None:
    model = artifact(models / "cnn.keras")
    feeds = feeds_for(model)
    first, second = infer(model, feeds), infer(model, feeds)
    assert {name: array.tolist() for name, array in first.items()} == {
        name: array.tolist() for name, array in second.items()
    }


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "name",
    [
        "cnn.keras", "cnn.h5", "two.keras", "two.h5", "named.keras", "collide.keras",
        "embedding.keras", "recurrent.keras", "grouped.keras", "gated.keras",
    ],
)  # fmt: skip
def test_converted_models_keep_names_order_and_values(
    models: Path,
    artifact: MakeArtifact,
    run_stage: RunStage,
    infer: Infer,
    stage: str,
    name: str,
) -> None:
    model = artifact(models / name)
    made = run_stage(stage, model)
    ends, given = made.ends(), model.ends()
    assert [(port.name, port.given_shape()) for port in ends.inputs] == [
        (port.name, port.shape) for port in given.inputs
    ]
    assert names(ends.outputs) == names(given.outputs)
    assert all(port.fixed for port in (*ends.inputs, *ends.outputs))
    feeds = feeds_for(model)
    assert_same(infer(made, feeds), infer(model, feeds))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["two.h5", "two.keras", "recurrent.h5"])
def test_converted_keras_2_models_keep_names_order_and_values(
    keras_2: Path,
    artifact: MakeArtifact,
    run_stage: RunStage,
    infer: Infer,
    stage: str,
    name: str,
) -> None:
    model = artifact(keras_2 / name)
    feeds = feeds_for(model)
    assert_same(infer(run_stage(stage, model), feeds), infer(model, feeds))


@pytest.mark.parametrize("name", ["cnn.keras", "gated.keras", "two.keras"])
def test_tflite_has_fixed_shapes_frozen_weights_and_no_transposes(
    models: Path,
    artifact: MakeArtifact,
    run_stage: RunStage,
    describe: Describe,
    name: str,
) -> None:
    ops = describe(run_stage("tflite_from_keras", artifact(models / name))).ops
    unwanted = {"SHAPE", "STRIDED_SLICE", "TRANSPOSE", "VAR_HANDLE", "READ_VARIABLE", "CALL_ONCE"}
    assert not unwanted & set(ops)


def test_tflite_lists_its_ends_in_the_models_order(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, describe: Describe
) -> None:
    found = describe(run_stage("tflite_from_keras", artifact(models / "two.keras"))).signature
    assert names(found.inputs) == ["zb", "aa"]
    assert names(found.outputs) == ["y_out", "b_out"]


def test_onnx_of_gated_convolutions_has_one_transpose_an_end(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, describe: Describe
) -> None:
    ops = describe(run_stage("onnx_from_keras", artifact(models / "gated.keras"))).ops
    assert ops["Transpose"] <= 2


def test_the_same_model_in_another_file_gives_the_same_onnx(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.keras"
    with zipfile.ZipFile(models / "cnn.keras") as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.comment = b"other bytes"
    first, second = (
        run_stage("onnx_from_keras", artifact(path)).path.read_bytes()
        for path in (models / "cnn.keras", copy)
    )
    assert first == second


def test_onnx_takes_images_as_nchw_where_asked(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, infer: Infer
) -> None:
    model = artifact(models / "cnn.keras")
    made = run_stage("onnx_from_keras", model, nchw_inputs=True)
    (image,) = made.ends().inputs
    assert (image.shape, image.permutation) == ((1, 3, 16, 16), (0, 3, 1, 2))
    feeds = feeds_for(model)
    assert_same(infer(made, feeds), infer(model, feeds))


def test_onnx_keeps_weights_beside_it_where_asked(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, infer: Infer
) -> None:
    model = artifact(models / "cnn.keras")
    made = run_stage("onnx_from_keras", model, external_data=True)
    data = made.path.with_name(f"{made.path.name}.data")
    assert data.stat().st_size > made.path.stat().st_size
    feeds = feeds_for(model)
    assert_same(infer(made, feeds), infer(model, feeds))


def test_an_opset_that_tf2onnx_lacks_is_refused(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    with pytest.raises(OptionError, match="13 to 18, received 21"):
        run_stage("onnx_from_keras", artifact(models / "cnn.keras"), opset=21)


def test_open_sizes_are_asked_for_and_can_be_set(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, infer: Infer
) -> None:
    with pytest.raises(InputError, match="free"):
        artifact(models / "free.keras")
    model = artifact(models / "free.keras", inputs="free=2x9x7x3")
    feeds = feeds_for(model)
    expected = infer(model, feeds)
    assert next(iter(expected.values())).shape == (2, 7, 5, 2)
    for stage in STAGES:
        assert_same(infer(run_stage(stage, model), feeds), expected)


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_a_lambda_layer_needs_trust(
    models: Path, artifact: MakeArtifact, infer: Infer, name: str
) -> None:
    with pytest.raises(TrustRequired, match=r"layer 'lambda' .*code") as refused:
        artifact(models / name)
    assert "--trust" in refused.value.hint
    trusted = artifact(models / name, trust=True)
    feeds = feeds_for(trusted)
    np.testing.assert_allclose(infer(trusted, feeds)["lambda"], feeds["zb"] * 3, rtol=1e-6)


@pytest.mark.parametrize("name", ["custom.keras", "custom.h5"])
def test_an_unknown_layer_is_named_with_the_way_to_give_it(
    models: Path, artifact: MakeArtifact, name: str
) -> None:
    with pytest.raises(UnsupportedModel, match="'Scale'") as refused:
        artifact(models / name)
    assert "--custom-objects" in refused.value.hint


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["custom.keras", "custom.h5", "net.keras"])
def test_custom_layers_and_models_convert(
    models: Path,
    artifact: MakeArtifact,
    run_stage: RunStage,
    infer: Infer,
    stage: str,
    name: str,
) -> None:
    model = artifact(models / name, **user_code(models))
    feeds = feeds_for(model)
    assert_same(infer(run_stage(stage, model), feeds), infer(model, feeds))


def test_custom_objects_need_trust(models: Path, artifact: MakeArtifact) -> None:
    with pytest.raises(TrustRequired, match="mylayers"):
        artifact(models / "untrusted.keras", **user_code(models, trust=False))


def test_a_module_that_raises_is_told_with_the_users_lines(
    models: Path, artifact: MakeArtifact
) -> None:
    with pytest.raises(UserCodeError, match="at import") as told:
        artifact(models / "custom.keras", **user_code(models, custom_objects="broken"))
    assert "broken.py" in str(told.value)
    assert "edgepipe" not in str(told.value).replace(str(models), "")


def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(
    models: Path, artifact: MakeArtifact
) -> None:
    with pytest.raises(UserCodeError, match=r"'nowhere\.to\.be'") as told:
        artifact(models / "custom.keras", **user_code(models, custom_objects="nowhere.to.be"))
    assert "--python-path" in told.value.hint


def test_a_custom_layer_that_raises_is_the_users_error(
    models: Path, artifact: MakeArtifact, infer: Infer
) -> None:
    model = artifact(models / "raising.keras", **user_code(models))
    with pytest.raises(UserCodeError, match="the user's own mistake"):
        infer(model, feeds_for(model))


def test_a_model_whose_weights_keras_would_leave_random_is_refused(
    models: Path, artifact: MakeArtifact
) -> None:
    with pytest.raises(UnsupportedModel, match="its weights would be random"):
        artifact(models / "unbuildable.keras", **user_code(models))


def test_a_file_that_no_keras_loads_tells_both_reasons(
    keras_2: Path, artifact: MakeArtifact
) -> None:
    with pytest.raises(UnsupportedModel, match=r"Keras 3: \w+: .* tf_keras: \w+: "):
        artifact(keras_2 / "neither.h5")


def test_a_class_of_a_foreign_module_is_refused_before_anything_is_imported(
    keras_2: Path, artifact: MakeArtifact
) -> None:
    with pytest.raises(UnsupportedModel, match=r"'fly' \(layer 'culprit'\)") as refused:
        artifact(keras_2 / "foreign.keras")
    assert "--custom-objects antigravity" in refused.value.hint


def test_weights_alone_are_refused(keras_2: Path, artifact: MakeArtifact) -> None:
    with pytest.raises(UnsupportedModel, match="weights"):
        artifact(keras_2 / "weights.h5")
