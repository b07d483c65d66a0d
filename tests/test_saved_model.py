"""TensorFlow SavedModels: which signature, which names, and what comes out of converting them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepipe.artifact import Artifact
from edgepipe.errors import StageFailed, TrustRequired, UnsupportedModel
from edgepipe.runner import Description

pytestmark = pytest.mark.toolchain("keras", "edge")

Build = Callable[[str, str], Path]
MakeArtifact = Callable[..., Artifact]
RunStage = Callable[..., Artifact]
Describe = Callable[[Artifact], Description]
Tensors = dict[str, NDArray[Any]]
Infer = Callable[[Artifact, Tensors], Tensors]

STAGES = ("onnx_from_saved_model", "tflite_from_keras")

MODELS = """
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras, numpy, tensorflow as tf, tf_keras
from keras import layers as L
keras.utils.set_random_seed(1)
random = numpy.random.default_rng(0)

zb, aa = keras.Input((8,), name="zb"), keras.Input((3,), name="aa")
image = keras.Input((8, 8, 8), name="image")
model = keras.Model([zb, image, aa], [
    L.Dense(5)(zb), L.Conv2D(4, 3, groups=2)(L.BatchNormalization()(image)), L.Dense(5)(aa)])
model.export("exported", verbose=False)

old = tf_keras.Sequential([tf_keras.Input((6,), name="x"), tf_keras.layers.Dense(3, name="y")])
old.save("keras_2", save_format="tf")

class Lookup(tf.Module):
    def __init__(self):
        self.table = tf.Variable(random.standard_normal((9, 4)), dtype=tf.float32)
        self.constant = tf.constant(random.standard_normal((4, 4)), tf.float32)
    @tf.function(input_signature=[
        tf.TensorSpec((None,), tf.int64, name="ids"),
        tf.TensorSpec((None, 4), tf.float32, name="x"),
        tf.TensorSpec((None, 2), tf.float32, name="unused")])
    def run(self, ids, x, unused):
        return {"z": tf.gather(self.table, ids) @ self.constant + x, "a": x * 2}
    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def other(self, x):
        return {"y": x}
    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def singular(self, x):
        return {"y": tf.linalg.svd(tf.matmul(x, x, transpose_a=True))[0]}
    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def writes(self, x):
        tf.io.write_file("written", "x")
        return {"y": x}

lookup = Lookup()
def save(name, **signatures):
    tf.saved_model.save(lookup, name, signatures=signatures or None)
save("one", mine=lookup.run)
save("several", first=lookup.run, second=lookup.other)
save("none")
save("singular", serving_default=lookup.singular)
save("writes", serving_default=lookup.writes)
"""


@pytest.fixture(scope="session")
def models(build: Build) -> Path:
    return build("keras", MODELS)


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


def test_inputs_of_a_keras_export_are_in_model_order(
    models: Path, artifact: MakeArtifact, describe: Describe
) -> None:
    described = describe(artifact(models / "exported"))
    assert [(port.name, port.shape) for port in described.signature.inputs] == [
        ("zb", (None, 8)),
        ("image", (None, 8, 8, 8)),
        ("aa", (None, 3)),
    ]
    outputs = [port.name for port in described.signature.outputs]
    assert outputs == ["output_0", "output_1", "output_2"]
    assert described.parameters == (8 * 5 + 5) + 4 * 8 + (3 * 3 * 4 * 4 + 4) + (3 * 5 + 5)


def test_a_table_bounds_its_indices(models: Path, artifact: MakeArtifact) -> None:
    highs = {port.name: port.high for port in artifact(models / "one").ends().inputs}
    assert highs == {"ids": 9, "x": None, "unused": None}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["exported", "keras_2", "one"])
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
    assert [(port.name, port.shape) for port in made.ends().inputs] == [
        (port.name, port.shape) for port in model.ends().inputs
    ]
    feeds = feeds_for(model)
    expected, found = infer(model, feeds), infer(made, feeds)
    assert list(found) == list(expected)
    for key, want in expected.items():
        assert np.abs(want).max() > 0
        np.testing.assert_allclose(found[key], want, rtol=1e-4, atol=1e-5, err_msg=key)


def test_several_signatures_without_the_default_are_listed(
    models: Path, artifact: MakeArtifact
) -> None:
    with pytest.raises(UnsupportedModel, match="its signatures are: first, second"):
        artifact(models / "several")


def test_a_model_without_signatures_is_refused(models: Path, artifact: MakeArtifact) -> None:
    with pytest.raises(UnsupportedModel, match="its signatures are: none"):
        artifact(models / "none")


def test_a_graph_that_writes_files_needs_trust(models: Path, artifact: MakeArtifact) -> None:
    with pytest.raises(TrustRequired, match="WriteFile"):
        artifact(models / "writes")


@pytest.mark.parametrize("stage", STAGES)
def test_operators_that_the_target_lacks_are_named(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, stage: str
) -> None:
    with pytest.raises(StageFailed, match="Svd"):
        run_stage(stage, artifact(models / "singular", inputs="x=2x4"))
